"""What the management API changes on request, and what it refuses, as the SDK's own resources see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import together

from hana_ai.api.local.together import LocalTogether

from .test_management import BASE, CONFIG, DYNAMIC, MODEL, NONE, ONE, PATH, deploy, eventually, sdk, server, state

__all__ = ["sdk", "server"]

OTHER_CONFIG = CONFIG.replace("local-big", "local-chat")


@pytest.fixture
def endpoint(sdk: together.Together) -> Any:
    return sdk.endpoints.create(name="mine")


def raw(server: LocalTogether, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {server.api_key}"}
    return httpx.request(method, f"{server.base_url}/v2/projects/proj_local{path}", headers=headers, **more)


# --- endpoints and deployments ---


def test_an_endpoint_can_be_renamed_and_its_events_read(sdk: together.Together, endpoint: Any) -> None:
    deploy(sdk, endpoint)
    sdk.endpoints.create(name="other")
    renamed = sdk.endpoints.update(endpoint.id, name="renamed", etag=endpoint.etag)
    assert renamed.name == "local-project/renamed"
    kinds = [event.type for event in sdk.endpoints.list_events(endpoint.id)]
    assert "deployment.created" in kinds
    listed = [one.name for one in sdk.endpoints.list(order_by="createdAt desc")]
    assert listed == ["local-project/other", "local-project/renamed"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"visibility": "VISIBILITY_SECRET"}, "visibility must be one of"),
        ({"traffic_split": [{"deployment_id": "dep_none", "weight": 1}]}, "dep_none is not one of endpoint"),
        ({"name": "x", "update_mask": "colour"}, "can't be updated: colour"),
    ],
)
def test_a_change_of_an_endpoint_that_cannot_be_is_refused(
    sdk: together.Together, endpoint: Any, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(together.BadRequestError, match=words):
        sdk.endpoints.update(endpoint.id, **fields)
    assert sdk.endpoints.retrieve(endpoint.id).etag == endpoint.etag


@pytest.mark.parametrize("weight", [-1, True, "1"])
def test_a_weight_is_a_number_of_at_least_0(sdk: together.Together, endpoint: Any, weight: Any) -> None:
    made = deploy(sdk, endpoint)
    with pytest.raises(together.BadRequestError, match="weight must be finite and not negative"):
        sdk.endpoints.update(endpoint.id, traffic_split=[{"deployment_id": made.id, "weight": weight}])


def test_a_weight_of_0_takes_a_deployment_out(sdk: together.Together, endpoint: Any) -> None:
    made = deploy(sdk, endpoint)
    changed = sdk.endpoints.update(endpoint.id, traffic_split=[{"deployment_id": made.id, "weight": 0}])
    assert not changed.traffic_split


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"config": "1xnvidia"}, together.BadRequestError, "config must be projects/"),
        ({"config": CONFIG + "-none"}, together.NotFoundError, "Config .*-none not found"),
        ({"config": OTHER_CONFIG}, together.BadRequestError, "not compatible with the model"),
        ({"model": "projects/proj_local/models/ml_none"}, together.NotFoundError, "ml_none not found"),
        (
            {"model": f"projects/proj_local/models/{BASE}"},
            together.NotFoundError,
            "not found in project proj_local",
        ),
        ({"name": "taken"}, together.ConflictError, "taken already exists"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(
    sdk: together.Together, endpoint: Any, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    deploy(sdk, endpoint, name="taken")
    good = {"name": "main", "model": PATH, "config": CONFIG, "autoscaling": ONE}
    with pytest.raises(error, match=words):
        sdk.endpoints.deployments.create(endpoint.id, **{**good, **fields})
    assert len(sdk.endpoints.deployments.list(endpoint.id).data) == 1


def test_a_deployment_can_be_made_stopped_renamed_and_given_a_time_out(
    sdk: together.Together, endpoint: Any
) -> None:
    made = sdk.endpoints.deployments.create(endpoint.id, name="main", model=PATH, config=CONFIG, autoscaling=NONE)
    assert state(sdk, made) == "STOPPED"
    changed = sdk.endpoints.deployments.update(
        made.id, endpoint_id=endpoint.id, name="second", inactive_timeout=60
    )
    assert changed.name.endswith("/second")
    assert changed.inactive_timeout == 60
    with pytest.raises(together.BadRequestError, match="colour can't be updated"):
        sdk.endpoints.deployments.update(made.id, endpoint_id=endpoint.id, name="x", update_mask="colour")


def test_hardware_is_found_by_name_and_by_id(sdk: together.Together) -> None:
    for id in ("1xnvidia-h100-80gb", "it_1xnvidia-h100-80gb"):
        assert sdk.endpoints.hardware.retrieve(id).price_cents_per_hour == 549
    with pytest.raises(together.NotFoundError, match="Instance type abacus not found"):
        sdk.endpoints.hardware.retrieve("abacus")


@pytest.mark.usefixtures("endpoint")
def test_a_filter_that_is_not_understood_is_refused(sdk: together.Together) -> None:
    with pytest.raises(together.BadRequestError, match="filter is not understood"):
        sdk.endpoints.list(filter="colour = red")


# --- adapters ---


def test_an_adapter_is_updated_and_found_only_where_it_is(
    sdk: together.Together, server: LocalTogether, endpoint: Any
) -> None:
    deployment = deploy(sdk, endpoint, DYNAMIC)
    adapter = sdk.models.create(name="tuned", base_model_id=BASE, type="adapter")
    foreign = sdk.models.create(name="foreign", base_model_id="ml_local-chat", type="adapter")
    whole = sdk.models.create(name="whole", base_model_id=BASE, type="model")
    for model in (adapter, foreign):
        sdk.models.remote_uploads.create(model_id=model.id, remote_url="org/adapter")
    eventually(lambda: len(sdk.models.list_revisions(adapter.id).data), 1)
    where = {"endpoint_id": endpoint.id, "deployment_id": deployment.id}
    for model, words in ((foreign, "does not fit"), (whole, "is not an adapter")):
        with pytest.raises(together.BadRequestError, match=words):
            sdk.endpoints.adapters.create(**where, adapter_model_id=model.id)
    attached = sdk.endpoints.adapters.create(**where, adapter_model_id=adapter.id)
    [revision] = sdk.models.list_revisions(adapter.id).data
    changed = sdk.endpoints.adapters.update(
        attached.id, **where, adapter_revision_id=revision.revision_id, etag=attached.etag
    )
    assert changed.etag != attached.etag
    with pytest.raises(together.NotFoundError, match="Adapter dad_none not found"):
        sdk.endpoints.adapters.retrieve("dad_none", **where)
    path = f"/endpoints/{endpoint.id}/deployments/{deployment.id}/adapters/{attached.id}"
    refused = raw(server, "DELETE", path)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "etag is required.")


# --- models and uploads ---


def test_a_model_is_described_renamed_and_deleted_unless_it_is_deployed(
    sdk: together.Together, endpoint: Any
) -> None:
    model = sdk.models.create(name="tuned", base_model_id=BASE, type="adapter")
    assert sdk.models.list_files(model.id).data == []
    assert [
        one.reference_model_id for one in sdk.models.configs.list(reference_model_id=model.id, limit=1).data
    ] == [BASE]
    changed = sdk.models.update(model.id, description="new", name="other", visibility="VISIBILITY_INTERNAL")
    assert (changed.description, changed.name) == ("new", "local-project/other")
    sdk.models.remote_uploads.create(model_id=model.id, remote_url="org/adapter")
    eventually(lambda: len(sdk.models.list_revisions(model.id).data), 1)
    path = f"projects/proj_local/models/{model.id}"
    made = sdk.endpoints.deployments.create(endpoint.id, name="main", model=path, config=CONFIG, autoscaling=NONE)
    with pytest.raises(together.BadRequestError, match="is deployed; delete its deployments first"):
        sdk.models.delete(model.id)
    with pytest.raises(together.NotFoundError, match="Revision rv_none not found"):
        sdk.endpoints.deployments.create(
            endpoint.id, name="second", model=f"{path}/revisions/rv_none", config=CONFIG, autoscaling=NONE
        )
    sdk.endpoints.deployments.delete(made.id, endpoint_id=endpoint.id)
    sdk.models.delete(model.id)
    assert list(sdk.models.list()) == []


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda sdk, id: sdk.models.configs.retrieve("cr_none"), together.NotFoundError, "Config cr_none"),
        (
            lambda sdk, id: sdk.models.create(name="x", base_model_id=BASE, type="picture"),
            together.BadRequestError,
            "type must be model or adapter",
        ),
        (
            lambda sdk, id: sdk.models.remote_uploads.create(model_id=id, remote_url="http://example.com/a"),
            together.BadRequestError,
            "must be a Hugging Face repository or https",
        ),
        (lambda sdk, id: sdk.models.remote_uploads.retrieve("ru_none"), together.NotFoundError, "Upload ru_none"),
    ],
)
def test_what_is_wrong_about_models_is_refused(
    sdk: together.Together, call: Callable[[Any, str], object], error: type[Exception], words: str
) -> None:
    model = sdk.models.create(name="tuned", base_model_id=BASE, type="adapter")
    with pytest.raises(error, match=words):
        call(sdk, model.id)


def test_an_import_has_events(sdk: together.Together) -> None:
    model = sdk.models.create(name="tuned", base_model_id=BASE, type="adapter")
    job = sdk.models.remote_uploads.create(model_id=model.id, remote_url="org/adapter")
    [event] = sdk.models.remote_uploads.events(job.id).data
    assert event.message == "Importing org/adapter"


def test_an_upload_that_does_not_fit_is_refused_at_every_step(
    sdk: together.Together, server: LocalTogether
) -> None:
    model = sdk.models.create(name="tuned", base_model_id=BASE, type="adapter")

    def post(step: str, files: Any) -> tuple[int, str]:
        answer = raw(server, "POST", f"/models/upload/{step}", json={"objectId": model.id, "files": files})
        return answer.status_code, answer.json()["error"]["message"] if answer.is_error else ""

    one = {"path": "a.txt", "hash": "0" * 32, "numParts": 1}
    assert post("create", [{**one, "numParts": 0}]) == (400, "numParts of a.txt must be 1 to 10000.")
    assert post("create", [{**one, "numParts": "many"}])[0] == 400
    assert post("create", []) == (400, "files is required and must not be empty.")
    assert post("complete", [{**one, "skipUpload": True}])[1].endswith("is not stored; upload it.")
    assert post("complete", [one])[1].startswith("There is no upload of a.txt")

    body = {"objectId": model.id, "files": [one]}
    [file] = raw(server, "POST", "/models/upload/create", json=body).json()["files"]
    url = file["parts"][0]["url"]
    assert httpx.put(url.split("?")[0], content=b"x").status_code == 403
    assert httpx.put(url, content=b"x", headers={"authorization": "Bearer x"}).status_code == 400
    assert httpx.put(url.replace("/1?", "/2?"), content=b"x").status_code == 404
    details = {"uploadId": file["uploadId"], "parts": [{"partNumber": 1, "hash": "wrong"}]}
    assert post("complete", [{**one, "uploadDetails": details}])[1].endswith("are not those that were uploaded.")
    etag = httpx.put(url, content=b"x").headers["etag"].strip('"')
    details["parts"] = [{"partNumber": 1, "hash": etag}]
    assert post("complete", [{**one, "uploadDetails": details}])[1].startswith("The hash of a.txt is ")


def test_a_model_whose_deployment_is_named_wrongly_is_not_served(sdk: together.Together, endpoint: Any) -> None:
    deploy(sdk, endpoint)
    for name in ("local-project/mine/none", "local-project/none"):
        with pytest.raises(together.NotFoundError):
            sdk.chat.completions.create(model=name, messages=[{"role": "user", "content": MODEL}])
