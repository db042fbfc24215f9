"""Settings come from the environment and `.env`; what is wrong with them is said by name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from hana_ai.api.errors import TogetherAINotEnabledError, TogetherAISettingsError
from hana_ai.api.settings import DEFAULT_BASE_URL, TogetherAISettings, current_settings, is_loopback

KEY = "tgp_v1_watched-a-secret-key"


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = TogetherAISettings()
    assert settings.together_base_url == DEFAULT_BASE_URL
    assert (settings.together_timeout, settings.together_connect_timeout) == (60.0, 5.0)
    assert (settings.together_max_retries, settings.together_max_concurrency) == (3, 64)
    assert settings.together_embedding_batch_size == 128
    assert settings.together_route_embeddings == "all"
    assert not settings.enabled


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TOGETHER_TIMEOUT=7\nTOGETHER_MAX_RETRIES=9\nENABLE_TOGETHER_AI=true\n")
    monkeypatch.setenv("TOGETHER_TIMEOUT", "8")
    settings = TogetherAISettings()
    assert (settings.together_timeout, settings.together_max_retries) == (8.0, 9)
    assert settings.enable_together_ai


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_TIMEOUT", "")
    monkeypatch.setenv("TOGETHER_API_KEY", "")
    settings = TogetherAISettings()
    assert settings.together_timeout == 60.0
    assert settings.together_api_key is None


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("TOGETHER_TIMEOUT", "soon", "number"),
        ("TOGETHER_TIMEOUT", "-1", "greater than 0"),
        ("TOGETHER_MAX_RETRIES", "1.5", "integer"),
        ("TOGETHER_MAX_CONCURRENCY", "0", "greater than or equal to 1"),
        ("TOGETHER_ROUTE_EMBEDDINGS", "some", "'all', 'defaults' or 'off'"),
        ("TOGETHER_BUDGET_PERIOD", "week", "'day' or 'month'"),
        ("TOGETHER_BUDGET_USD", "0", "greater than 0"),
        ("ENABLE_TOGETHER_AI", "maybe", "boolean"),
        ("HANA_PORT", "70000", "less than or equal to 65535"),
        ("TOGETHER_BASE_URL", "ftp://x", "https://api.together.ai"),
        ("TOGETHER_BASE_URL", "http://example.com", "https"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TogetherAISettingsError) as caught:
        TogetherAISettings()
    message = str(caught.value)
    assert name in message
    assert repr(value) in message or value in message
    assert allowed in message


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_TIMEOUT", "x")
    monkeypatch.setenv("TOGETHER_MAX_RETRIES", "y")
    with pytest.raises(TogetherAISettingsError, match=r"TOGETHER_TIMEOUT.*TOGETHER_MAX_RETRIES"):
        TogetherAISettings()


@pytest.mark.parametrize("url", ["https://x.example/v1", "https://x.example/v1/", " https://x.example/ "])
def test_a_trailing_v1_is_removed(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", url)
    assert TogetherAISettings().together_base_url == "https://x.example"


@pytest.mark.parametrize("url", ["https://user:pw@x.example", "https://x.example?k=v", "https://x.example#f"])
def test_an_address_carries_nothing_but_host_and_path(url: str) -> None:
    with pytest.raises(TogetherAISettingsError, match="must not carry"):
        TogetherAISettings(together_base_url=url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:80", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:9", True),
        ("http://localhost", True),
        ("http://[::ffff:127.0.0.1]:9", True),
        ("http://[::ffff:10.0.0.1]:9", False),
        ("https://127.0.0.1.example.com", False),
        ("https://localhost.example.com", False),
        ("https://api.together.ai", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_missing_key_says_where_to_get_one_and_what_to_set() -> None:
    with pytest.raises(TogetherAISettingsError, match=r"TOGETHER_API_KEY.*api\.together\.ai/settings/api-keys"):
        TogetherAISettings().require_api_key()


def test_an_address_on_this_machine_needs_no_key() -> None:
    assert TogetherAISettings(together_base_url="http://127.0.0.1:1").require_api_key()


@pytest.mark.parametrize("key", ["two\nlines", "with blank", "schlüssel", "   "])
def test_what_is_no_key_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", key)
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_API_KEY is not a key") as caught:
        TogetherAISettings()
    assert key.strip() not in str(caught.value) or not key.strip()


def test_white_space_around_a_key_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", f" {KEY}\n")
    assert TogetherAISettings().require_api_key() == KEY


def test_secrets_show_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    monkeypatch.setenv("HANA_PASSWORD", "hana-secret")
    settings = TogetherAISettings()
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {caplog.text}"
    assert KEY not in shown
    assert "hana-secret" not in shown
    monkeypatch.setenv("TOGETHER_TIMEOUT", "x")
    with pytest.raises(TogetherAISettingsError) as caught:
        TogetherAISettings()
    assert KEY not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_the_key_of_another_provider_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with pytest.raises(TogetherAISettingsError):
        TogetherAISettings().require_api_key()


def test_not_enabled_lists_what_to_set() -> None:
    with pytest.raises(TogetherAINotEnabledError) as caught:
        TogetherAISettings(enable_gpu_acceleration=False).require_enabled()
    for name in ("ENABLE_TOGETHER_AI=true", "ENABLE_GPU_ACCELERATION", "TOGETHER_API_KEY"):
        assert name in str(caught.value)


def test_the_master_switch_turns_together_off() -> None:
    values: dict[str, Any] = {"enable_together_ai": True, "together_api_key": KEY}
    TogetherAISettings(**values).require_enabled()
    assert not TogetherAISettings(**values, enable_gpu_acceleration=False).enabled


def test_fields_can_be_given_by_the_variables_names() -> None:
    assert TogetherAISettings(TOGETHER_TIMEOUT=3).together_timeout == 3.0


def test_an_enabled_provider_without_a_key_asks_for_the_key() -> None:
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_API_KEY"):
        TogetherAISettings(enable_together_ai=True).require_enabled()


def test_the_current_settings_are_read_anew_when_something_has_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def same() -> bool:
        before, after = current_settings(), current_settings()
        assert before == TogetherAISettings()
        return before is after

    assert same()
    monkeypatch.setenv("TOGETHER_TIMEOUT", "7")
    assert current_settings().together_timeout == 7.0
    assert same()
    monkeypatch.setenv("together_max_retries", "9")
    assert current_settings().together_max_retries == 9
    (tmp_path / ".env").write_text("TOGETHER_TIMEOUT=8\nTOGETHER_CONNECT_TIMEOUT=3\n")
    assert (current_settings().together_timeout, current_settings().together_connect_timeout) == (7.0, 3.0)
    monkeypatch.delenv("TOGETHER_TIMEOUT")
    assert current_settings().together_timeout == 8.0
    assert same()
    (tmp_path / ".env").write_text("TOGETHER_TIMEOUT=9\nTOGETHER_CONNECT_TIMEOUT=3\n")
    assert current_settings().together_timeout == 9.0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert current_settings().together_timeout == 60.0
    assert same()


def test_a_wrong_value_is_refused_each_time_and_slips_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    current_settings()
    monkeypatch.setenv("TOGETHER_TIMEOUT", "soon")
    for _ in range(2):
        with pytest.raises(TogetherAISettingsError, match="TOGETHER_TIMEOUT='soon'"):
            current_settings()
    monkeypatch.setenv("TOGETHER_TIMEOUT", "7")
    current_settings()
    monkeypatch.setenv("TOGETHER_TIMOUTS", "8")
    current_settings()
    assert "TOGETHER_TIMOUTS in the environment is not read" in caplog.text
    Path(".env").write_text("TOGETHER_TIMEOUTT=8\n")
    current_settings()
    assert "TOGETHER_TIMEOUTT in" in caplog.text
