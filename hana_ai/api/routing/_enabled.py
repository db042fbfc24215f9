"""Whether Together is enabled, found out without importing anything: pydantic alone takes 100 ms.

The answer is the one of `TogetherAISettings.enabled`, which tests compare.
"""

from __future__ import annotations

import os

_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}
_SWITCH = "enable_together_ai"
_MASTER = "enable_gpu_acceleration"


def is_enabled() -> bool:
    """Whether ENABLE_TOGETHER_AI is true and ENABLE_GPU_ACCELERATION is not false.

    Raises
    ------
    TogetherAISettingsError
        A value is neither.
    """
    found = _from_dot_env()
    found.update((name.lower(), value) for name, value in os.environ.items() if value and name.lower() in _NAMES)
    if not found.get(_SWITCH):
        return False
    switch, master = found[_SWITCH].lower(), (found.get(_MASTER) or "true").lower()
    if not {switch, master} <= _TRUE | _FALSE:
        from hana_ai.api.settings import TogetherAISettings

        # It says what is wrong, in its own words.
        return TogetherAISettings().enabled
    return switch in _TRUE and master in _TRUE


_NAMES = (_SWITCH, _MASTER)


def _from_dot_env() -> dict[str, str]:
    try:
        with open(".env", "rb") as file:  # noqa: PTH123 - the import of pathlib takes longer than all the rest
            text = file.read()
    except OSError:
        return {}
    if _SWITCH.encode() not in text.lower():
        return {}
    from dotenv import dotenv_values

    values = dotenv_values(".env", encoding="utf-8")
    return {name.lower(): value for name, value in values.items() if value and name.lower() in _NAMES}
