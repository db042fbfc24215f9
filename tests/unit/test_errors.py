"""Errors are LangChain's, carry what the server said, and say what to do."""

from __future__ import annotations

import pickle

import langchain_core.exceptions as lc
import pytest

from hana_ai.api import errors
from hana_ai.api.wire.error_bodies import error_from_body

_BODY = {"error": {"message": "no", "type": "some_type", "param": "model", "code": "some_code"}}


@pytest.mark.parametrize(
    ("status", "ours", "langchain", "retryable"),
    [
        (400, errors.TogetherAIInvalidRequestError, lc.ModelInvalidRequestError, False),
        (401, errors.TogetherAIAuthenticationError, lc.ModelAuthenticationError, False),
        (402, errors.TogetherAIPaymentRequiredError, lc.ModelError, False),
        (403, errors.TogetherAIPermissionDeniedError, lc.ModelPermissionDeniedError, False),
        (404, errors.TogetherAIModelNotFoundError, lc.ModelNotFoundError, False),
        (408, errors.TogetherAITimeoutError, lc.ModelTimeoutError, True),
        (409, errors.TogetherAIConflictError, lc.ModelError, True),
        (413, errors.TogetherAIInvalidRequestError, lc.ModelInvalidRequestError, False),
        (418, errors.TogetherAIStatusError, lc.ModelError, False),
        (422, errors.TogetherAIInvalidRequestError, lc.ModelInvalidRequestError, False),
        (429, errors.TogetherAIRateLimitError, lc.ModelRateLimitError, True),
        (500, errors.TogetherAIServerError, lc.ModelAPIError, True),
        (503, errors.TogetherAIServerError, lc.ModelAPIError, True),
        (529, errors.TogetherAIServerError, lc.ModelAPIError, True),
    ],
)
def test_a_status_has_its_class(
    status: int, ours: type[Exception], langchain: type[Exception], retryable: bool
) -> None:
    error = error_from_body(status, _BODY, model="m", request_id="r-1", retry_after=2.0)
    assert isinstance(error, ours)
    assert isinstance(error, langchain)
    assert isinstance(error, RuntimeError)
    assert error.is_retryable is retryable
    assert (error.status, error.status_code, error.code, error.type, error.param) == (
        status,
        status,
        "some_code",
        "some_type",
        "model",
    )
    assert str(error).startswith(f"Error code: {status} - no (model m, request r-1)")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000"),
        (403, "The input is longer than the model's context length"),
        (400, "This model's maximum context length is 8193 tokens"),
    ],
)
def test_an_exceeded_context_is_langchains_context_overflow(status: int, message: str) -> None:
    error = error_from_body(status, {"error": {"message": message}})
    assert isinstance(error, lc.ContextOverflowError)
    assert "max_tokens" in str(error)


@pytest.mark.parametrize(
    "inner",
    [
        {"message": "Unable to access non-serverless model X. Create an endpoint.", "code": "model_not_available"},
        {"message": "gone", "code": "model_not_available"},
        {"message": "Unable to access model X"},
    ],
)
def test_a_model_that_is_not_served_is_not_found(inner: dict[str, str]) -> None:
    assert isinstance(error_from_body(400, {"error": inner}), errors.TogetherAIModelNotFoundError)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": "plain"}, "plain"),
        ({"message": "outside"}, "outside"),
        ({"detail": "fastapi"}, "fastapi"),
        ({"error": {"message": None}, "error_type": "t"}, "gave no reason"),
        ("<html>  <h1>Bad\nGateway</h1></html>", "<html> <h1>Bad Gateway</h1></html>"),
        ("", "gave no reason"),
        (None, "gave no reason"),
        ([1], "gave no reason"),
    ],
)
def test_any_body_gives_a_message(body: object, expected: str) -> None:
    assert expected in str(error_from_body(502, body))


def test_errors_can_be_pickled_with_all_they_carry() -> None:
    error = error_from_body(429, _BODY, model="m", request_id="r", retry_after=1.5)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.retry_after, copy.model) == (str(error), 1.5, "m")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    named = {word for word in (errors.__doc__ or "").split() if word.startswith("TogetherAI")}
    public = {name for name in vars(errors) if name.startswith("TogetherAI")}
    assert named == public


def test_a_structured_output_error_is_an_output_parser_exception() -> None:
    error = errors.TogetherAIStructuredOutputError("no", llm_output="text")
    assert isinstance(error, lc.OutputParserException)
    assert error.llm_output == "text"
