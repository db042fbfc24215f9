"""What LangChain's users expect of every class: other names of its fields, saving, copying, comparing, closing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, SecretStr

from hana_ai.api.addresses.spelling import question, similar
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.langchain.arguments import taken_by
from hana_ai.api.langchain.closing import Closing


class Habits(Closing, BaseModel):
    """Goes without fields of its own; see `ClientFields`, which has them."""

    model_config = ConfigDict(defer_build=True)

    if TYPE_CHECKING:
        model: str | None
        api_key: SecretStr | None
        base_url: str | None

    # --- the names of other classes ---

    @property
    def model_name(self) -> str | None:
        """The field `model`."""
        return self.model

    @model_name.setter
    def model_name(self, value: str | None) -> None:
        self.model = value

    @property
    def together_api_key(self) -> SecretStr | None:
        """The field `api_key`."""
        return self.api_key

    @together_api_key.setter
    def together_api_key(self, value: SecretStr | str | None) -> None:
        self.api_key = SecretStr(value) if isinstance(value, str) else value

    @property
    def together_api_base(self) -> str | None:
        """The field `base_url`."""
        return self.base_url

    # --- saving ---

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where a loaded object finds its key again."""
        return {"api_key": "TOGETHER_API_KEY"}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether LangChain can save objects of this class; it can."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The module's path, for loading."""
        return cls.__module__.split(".")

    def __getstate__(self) -> dict[str, object]:
        from hana_ai.api.langchain.pickling import without_keys

        return without_keys(super().__getstate__())

    def __setstate__(self, state: dict[str, object]) -> None:
        from hana_ai.api.langchain.pickling import with_keys

        super().__setstate__(with_keys(state, type(self).__name__))

    # --- copying, comparing, assigning ---

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, in which `update` has other values for some fields.

        Raises
        ------
        TogetherAISettingsError
            `update` names no field; the message has the right one, if there is one that is close.
        """
        for name in update or ():
            if name not in type(self).model_fields:
                raise self._no_field(name)
        return super().model_copy(update=update, deep=deep)

    def __eq__(self, other: object) -> bool:
        # What an object has learned of its server meanwhile makes it no other one.
        if type(self) is not type(other):
            return NotImplemented
        # Not all of __dict__: LangChain caches things there, too.
        return all(self.__dict__.get(name) == other.__dict__.get(name) for name in type(self).model_fields)

    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValueError:
            if name in type(self).model_fields:
                raise
            wrong = self._no_field(name)
        else:
            return
        raise wrong

    def _no_field(self, name: str) -> TogetherAISettingsError:
        kind = type(self)
        near = similar(name, taken_by(kind).fields)
        return TogetherAISettingsError(
            f"{kind.__name__} has no field {name}{'; ' + question(near) if near else '.'}"
        )

    # --- the end ---

    def close(self) -> None:
        """Leave the connections to this object's address, which close if no other object uses them.

        Calls of this object that are under way end. It can be used again, and then opens new ones.
        """
        from hana_ai.api.service import left_by

        for transport in left_by(self):
            transport.close()

    async def aclose(self) -> None:
        """Leave the connections, from a coroutine; see `close`."""
        from hana_ai.api.service import left_by

        for transport in left_by(self):
            await transport.aclose()
