"""Fine-tuning jobs go through their states, and leave an adapter that can be deployed and asked."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import together

from hana_ai.api.local.together import LocalModel, LocalTogether, ScriptedEngine
from tests.openapi import check_exchange

from .conftest import sdk_of
from .test_files import written
from .test_management import eventually

MODEL = "local/chat"
CHAT = (
    '{"messages": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello to you"}]}\n'
)
LORA = {"type": "Lora", "lora_r": 16, "lora_alpha": 32}


def check(path: str, request: Any, status: int, answer: Any) -> None:
    """Wrong requests are sent on purpose here, and have to be refused."""
    check_exchange(path, None if status >= 400 else request, status, answer)


@pytest.fixture
def server() -> Iterator[LocalTogether]:
    with LocalTogether(ScriptedEngine(models=[LocalModel(MODEL)]), on_exchange=check) as running:
        running.files.dials.processing = 0
        running.fine_tunes.dials.step = 0.01
        running.management.dials.provisioning = 0
        yield running


@pytest.fixture
def sdk(server: LocalTogether) -> Iterator[together.Together]:
    with sdk_of(server, project_id="proj_local") as client:
        yield client


@pytest.fixture
def data(sdk: together.Together, tmp_path: Path) -> str:
    """The id of a file with ten conversations."""
    return sdk.files.upload(written(tmp_path, 10 * CHAT), purpose="fine-tune").id


def train(sdk: together.Together, data: str, **more: Any) -> Any:
    return sdk.fine_tuning.create(training_file=data, model=MODEL, lora=True, **more)


def status(sdk: together.Together, job: Any) -> str:
    return sdk.fine_tuning.retrieve(job.id).status


def test_a_job_ends_with_an_adapter_that_answers(sdk: together.Together, data: str) -> None:
    made = train(sdk, data, n_epochs=2, n_checkpoints=2, batch_size=2, suffix="mine", lora_r=16)
    assert made.status == "pending"
    eventually(lambda: status(sdk, made), "completed")
    job = sdk.fine_tuning.retrieve(made.id)
    assert (job.trainingfile_numlines, job.epochs_completed, job.batch_size) == (10, 2, 2)
    assert job.x_model_output_name is not None
    assert "-mine-" in job.x_model_output_name
    kinds = [event.type for event in sdk.fine_tuning.list_events(made.id).data]
    assert kinds[0] == "job_pending"
    assert kinds.count("epoch_complete") == 2
    assert kinds[-1] == "job_complete"
    assert [one.step for one in sdk.fine_tuning.list_checkpoints(made.id).data] == [10, 5]

    adapter = sdk.models.retrieve(str(job.adapter_object_id))
    assert adapter.name == job.adapter_object_name
    endpoint = sdk.endpoints.create(name="tuned")
    deployment = sdk.endpoints.deployments.create(
        endpoint.id,
        name="main",
        model=f"projects/proj_local/models/{adapter.id}",
        config="projects/proj_public/configs/cr_local-chat-1xnvidia-h100-80gb-disabled",
        autoscaling={"min_replicas": 1, "max_replicas": 1},
    )
    answer = sdk.chat.completions.create(model=deployment.name, messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].message.content == "Hello"


def test_the_loss_falls_and_metrics_are_cut_to_what_was_asked_for(sdk: together.Together, data: str) -> None:
    made = train(sdk, data, n_epochs=2, batch_size=1)
    eventually(lambda: status(sdk, made), "completed")
    metrics = sdk.fine_tuning.list_metrics(made.id).metrics or []
    losses = [one["train/loss"] for one in metrics]
    assert len(losses) == 20
    assert losses == sorted(losses, reverse=True)
    some = sdk.fine_tuning.list_metrics(made.id, global_step_from=5, global_step_to=14, resolution=5).metrics or []
    assert [one["train/global_step"] for one in some] == [5, 7, 9, 11, 13]


def test_what_was_trained_can_be_downloaded(sdk: together.Together, data: str) -> None:
    made = train(sdk, data, lora_r=16)
    with pytest.raises(together.NotFoundError, match="nothing to download"):
        sdk.fine_tuning.content(ft_id=made.id, checkpoint="adapter")
    eventually(lambda: status(sdk, made), "completed")
    content = sdk.fine_tuning.content(ft_id=made.id, checkpoint="adapter").read()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == ["adapter_config.json", "adapter_model.safetensors"]
        config = tar.extractfile("adapter_config.json")
        assert config is not None
        assert b'"r":16' in config.read()
    with pytest.raises(together.BadRequestError, match="no checkpoint of the kind"):
        sdk.fine_tuning.content(ft_id=made.id, checkpoint="model_output_path")
    with pytest.raises(together.NotFoundError, match="no checkpoint of step 99"):
        sdk.fine_tuning.content(ft_id=made.id, checkpoint_step=99)
    dataset = sdk.fine_tuning.retrieve_tokenized_dataset(made.id)
    rows = httpx.get(dataset.url)
    assert (len(rows.content), len(rows.text.splitlines())) == (dataset.size, 10)


def test_a_job_is_cancelled_and_deleted(sdk: together.Together, server: LocalTogether, data: str) -> None:
    server.fine_tunes.dials.step = 0.1
    made = train(sdk, data)
    with pytest.raises(together.BadRequestError, match="cancel it first"):
        sdk.fine_tuning.delete(made.id)
    assert sdk.fine_tuning.cancel(made.id).status == "cancel_requested"
    eventually(lambda: status(sdk, made), "cancelled")
    assert sdk.fine_tuning.cancel(made.id).status == "cancelled"
    assert sdk.fine_tuning.delete(made.id).message
    with pytest.raises(together.NotFoundError):
        sdk.fine_tuning.retrieve(made.id)
    assert sdk.fine_tuning.list().data == []
    running = train(sdk, data)
    sdk.fine_tuning.delete(running.id, extra_query={"force": True})
    assert server.fine_tunes.jobs == []


def test_a_job_fails_on_demand(sdk: together.Together, server: LocalTogether, data: str) -> None:
    server.fine_tunes.dials.next_failure = "Out of memory"
    made = train(sdk, data)
    eventually(lambda: status(sdk, made), "error")
    assert sdk.fine_tuning.list_events(made.id).data[-1].message == "Out of memory"
    assert not server.management.models


def test_a_price_is_estimated_before(sdk: together.Together, server: LocalTogether, data: str) -> None:
    found: Any = sdk.fine_tuning.estimate_price(training_file=data, model=MODEL, n_epochs=3)
    assert found.estimation_available
    assert found.estimated_train_token_count == 10 * 5 * 3
    assert found.estimated_total_price == pytest.approx(150 * 0.48 / 1e6)
    assert found.allowed_to_proceed
    server.files.dials.processing = 60
    later: Any = sdk.fine_tuning.estimate_price(training_file=data, model=MODEL)
    assert later.unavailable_reason == "train_file_not_validated"


def test_a_preview_shows_what_is_trained_on(sdk: together.Together, data: str) -> None:
    found = sdk.fine_tuning.preview(model=MODEL, training_file=data, top_k=2)
    assert (found.dataset_format, len(found.rows)) == ("conversation", 2)
    row = found.rows[0]
    assert row.tokens == ["Hi", " there", "Hello", " to", " you"]
    assert row.trained_spans == [[2, 5]]
    assert [label == -100 for label in row.labels] == [True, True, False, False, False]
    assert (
        sdk.fine_tuning.preview(model=MODEL, training_file=data, train_on_inputs=True).rows[0].num_trained_tokens
        == 5
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "local/none"}, "model"),
        ({"training_file": "file-none"}, "training_file"),
        ({"n_epochs": 21}, "n_epochs"),
        ({"batch_size": 65}, "batch_size"),
        ({"batch_size": "min"}, "batch_size"),
        ({"n_evals": 1}, "n_evals"),
        ({"max_seq_length": 1}, "max_seq_length"),
        ({"training_type": {"type": "Lora"}}, "training_type"),
        ({"lr_scheduler": {"lr_scheduler_type": "sine"}}, "lr_scheduler"),
    ],
)
def test_a_job_that_cannot_be_is_refused(
    http: httpx.Client, data: str, fields: dict[str, Any], param: str
) -> None:
    body = {"model": MODEL, "training_file": data, "training_type": LORA, **fields}
    refused = http.post("/v1/fine-tunes", json=body)
    assert refused.status_code in (400, 404)
    assert refused.json()["error"]["param"] == param


def test_a_job_goes_on_from_a_checkpoint(sdk: together.Together, http: httpx.Client, data: str) -> None:
    made = train(sdk, data)
    eventually(lambda: status(sdk, made), "completed")
    again = sdk.fine_tuning.create(training_file=data, from_checkpoint=made.id)
    assert again.model == MODEL
    limits = sdk.fine_tuning.model_limits(model_name=MODEL)
    assert limits.lora_training.max_rank == 64
    assert http.get("/v1/fine-tunes/models/supported").json() == {"models": [MODEL]}
    assert "message" in http.get("/v1/fine-tunes/models/limits", params={"model_name": "x"}).json()
