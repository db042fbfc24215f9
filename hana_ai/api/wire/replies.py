"""What is read of the inference API's replies, checked where they come in.

Each schema lists the fields that are read; fields beside these stay as they are, and so do labels (model, id,
finish reason) and token counts of any type: an answer is not lost for them. The readers of streams and vectors
check by hand what comes a thousand times a second, and ask a schema for the place once something does not fit.
"""

from __future__ import annotations

from typing import TypeGuard

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core import core_schema as made

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.wire.shapes import misfit, wrong_shape

_MOST = 2**53
"""The largest count that every JSON reader takes for the same number."""


def _object(required: tuple[str, ...] = (), **fields: made.CoreSchema) -> made.CoreSchema:
    return made.typed_dict_schema(
        {name: made.typed_dict_field(field, required=name in required) for name, field in fields.items()}
    )


def _or_null(schema: made.CoreSchema) -> made.CoreSchema:
    return made.nullable_schema(schema)


_TEXT = made.str_schema(strict=True)
_NUMBER = made.float_schema(strict=True, allow_inf_nan=False)
# Some servers write whole numbers as floats, which JSON does not tell apart.
_PLACE = made.union_schema(
    [
        made.int_schema(strict=True, ge=0, le=_MOST),
        made.float_schema(strict=True, ge=0, le=_MOST, multiple_of=1.0),
    ],
    custom_error_type="whole_number",
    custom_error_message="Input should be a whole number from 0",
)
_ARGUMENTS = made.union_schema(
    [_TEXT, made.dict_schema()],
    custom_error_type="arguments",
    custom_error_message="Input should be a string or an object",
)
_LOGPROBS = made.union_schema(
    [made.dict_schema(), _NUMBER],
    custom_error_type="logprobs",
    custom_error_message="Input should be an object or a number",
)

_CALL = _object(
    id=_or_null(_TEXT),
    index=_or_null(_PLACE),
    function=_or_null(_object(name=_or_null(_TEXT), arguments=_or_null(_ARGUMENTS))),
)
_MESSAGE = _object(
    content=_or_null(_TEXT),
    reasoning=_or_null(_TEXT),
    reasoning_content=_or_null(_TEXT),
    name=_or_null(_TEXT),
    tool_calls=_or_null(made.list_schema(_CALL)),
)


def _with_choices(choice: made.CoreSchema) -> SchemaValidator:
    return SchemaValidator(_object(("choices",), choices=made.list_schema(choice, min_length=1)))


CHAT = _with_choices(_object(("message",), message=_MESSAGE))
COMPLETION = _with_choices(_object(("text",), text=_TEXT))
CHUNK = SchemaValidator(
    _object(
        choices=_or_null(
            made.list_schema(
                _object(
                    index=_or_null(_PLACE),
                    delta=_or_null(_MESSAGE),
                    message=_or_null(_MESSAGE),
                    text=_or_null(_TEXT),
                    logprobs=_or_null(_LOGPROBS),
                )
            )
        ),
        token=_or_null(_object(id=made.any_schema(), text=_or_null(_TEXT))),
    )
)
"""A chunk of a chat or a completion."""
EMBEDDINGS = SchemaValidator(
    _object(
        ("data",),
        data=made.list_schema(
            _object(("index", "embedding"), index=_PLACE, embedding=made.list_schema(_NUMBER, min_length=1))
        ),
    )
)
NUMBERS = SchemaValidator(made.list_schema(made.float_schema(strict=True)))
"""A vector. What is a float already stays the same object."""
_RANKED = made.list_schema(_object(("index", "relevance_score"), index=_PLACE, relevance_score=_NUMBER))
RANKING = SchemaValidator(_object(results=_or_null(_RANKED), choices=_or_null(_RANKED)))


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; JSON's true is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_reply(
    schema: SchemaValidator, reply: object, *, model: str | None = None, request_id: str | None = None
) -> None:
    """Check that a reply has the shape that its reader relies on.

    Raises
    ------
    TogetherAIResponseError
        It does not fit; the message has the place, what is there and what was expected.
    """
    try:
        schema.validate_python(reply)
    except ValidationError as exc:
        raise misfit(exc, "the reply", model=model, request_id=request_id) from None


def unreadable(
    exc: BaseException,
    schema: SchemaValidator,
    reply: object,
    *,
    model: str | None = None,
    request_id: str | None = None,
) -> TogetherAIResponseError:
    """Make the error for a reply that a reader tripped over, with the place if the schema finds it."""
    try:
        check_reply(schema, reply, model=model, request_id=request_id)
    except TogetherAIResponseError as error:
        return error
    return wrong_shape(exc, model=model, request_id=request_id)
