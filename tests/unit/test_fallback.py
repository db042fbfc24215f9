"""Where else a call can go: what the setting says, whose key goes where, and the breakers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import SecretStr

from hana_ai.api import (
    ChatTogetherAI,
    FallbackTarget,
    TogetherAIEmbeddings,
    TogetherAIRerank,
    TogetherAISettingsError,
)
from hana_ai.api.addresses.targets import parse_fallback
from hana_ai.api.transport.breaker import BreakerPolicy, CircuitBreaker

POLICY = BreakerPolicy()

HOME = "https://api.example.com"
KEY = SecretStr("tgp_v1_watched-the-key-of-home")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ", []),
        ("org/model", ["org/model"]),
        ("org/a, org/b", ["org/a", "org/b"]),
        ("https://llm.example.com/v1#org/model", ["https://llm.example.com#org/model"]),
        ("http://127.0.0.1:8000#m,n", ["http://127.0.0.1:8000#m", "n"]),
    ],
)
def test_the_setting_is_a_comma_list(text: str, expected: list[str]) -> None:
    assert [str(target) for target in parse_fallback(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://llm.example.com",
        "https://llm.example.com#",
        "http://llm.example.com#m",
        "a b",
        "ftp://h#m",
        "://#m",
    ],
)
def test_a_wrong_entry_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_FALLBACK", text)
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_FALLBACK"):
        ChatTogetherAI(api_key="k", model="m")


def test_the_key_goes_to_its_own_host_only() -> None:
    home, other = FallbackTarget("m", HOME + "/v1"), FallbackTarget("m", "https://other.example.com")
    assert home.completed(HOME, KEY).api_key == KEY
    assert FallbackTarget("n").completed(HOME, KEY) == FallbackTarget("n", HOME, KEY)
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_FALLBACK_API_KEY"):
        other.completed(HOME, KEY)
    # The same name with another port or without encryption is another host.
    for address in (f"{HOME}:8443", "https://api.example.com.evil.test"):
        with pytest.raises(TogetherAISettingsError):
            FallbackTarget("m", address).completed(HOME, KEY)
    assert FallbackTarget("m", "http://127.0.0.1:1").completed(HOME, KEY).api_key == SecretStr("loopback")
    another = SecretStr("another-key")
    assert home.completed(HOME, KEY, another).api_key == KEY
    assert other.completed(HOME, KEY, another).api_key == another
    assert FallbackTarget("m", "https://x.example.com", "own").completed(HOME, KEY, another).api_key == SecretStr(
        "own"
    )


def test_another_host_gets_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_FALLBACK_API_KEY", "another-key")
    chat = ChatTogetherAI(api_key="k", model="m", fallback="https://other.example.com#m")
    [target] = chat._fallback_of("m")
    assert target.api_key == SecretStr("another-key")


def test_a_missing_key_is_said_when_the_object_is_made() -> None:
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_FALLBACK_API_KEY"):
        ChatTogetherAI(api_key="k", model="m", fallback="https://other.example.com#m")


def test_no_repr_shows_a_key() -> None:
    chat = ChatTogetherAI(api_key="k-1", model="m", fallback=[FallbackTarget("n", "https://o.example.com", "k-2")])
    assert "k-2" not in repr(chat) + str(chat.fallback) + repr(chat.fallback)


def test_the_argument_takes_what_the_setting_takes() -> None:
    chat = ChatTogetherAI(api_key="k", model="m", fallback="a, b")
    assert [str(target) for target in chat.fallback or ()] == ["a", "b"]
    with pytest.raises(ValueError, match="neither a model's name"):
        ChatTogetherAI(api_key="k", model="m", fallback=["a b"])


@pytest.mark.parametrize("made", [TogetherAIEmbeddings, TogetherAIRerank])
def test_vectors_and_scores_of_two_models_are_never_mixed(
    made: type[TogetherAIEmbeddings | TogetherAIRerank], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TogetherAISettingsError, match="can't be mixed"):
        made(api_key="k", model="m", fallback=["another"])
    monkeypatch.setenv("TOGETHER_FALLBACK", "chat-model, http://127.0.0.1:1#m, http://127.0.0.1:1#n")
    targets = made(api_key="k", model="m")._fallback_of("m")
    assert [str(target) for target in targets] == ["http://127.0.0.1:1#m"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_rests_probes_and_closes() -> None:
    clock = Clock()
    breaker = CircuitBreaker("m", clock=clock)
    for _ in range(POLICY.opens_after):
        assert breaker.allow() and breaker.state == "closed"
        breaker.failed()
    assert not breaker.allow() and breaker.state == "open"
    clock.now += POLICY.first_rest
    assert breaker.state == "half-open"
    assert breaker.allow() and not breaker.allow()
    breaker.failed()
    clock.now += POLICY.first_rest
    assert not breaker.allow()
    clock.now += POLICY.first_rest
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.state == "closed" and breaker.allow() and breaker.allow()


def test_a_success_between_failures_starts_the_count_anew() -> None:
    breaker = CircuitBreaker("m", clock=Clock())
    for _ in range(3):
        for _ in range(POLICY.opens_after - 1):
            breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"


def test_a_stream_that_began_closes_a_breaker_and_one_that_breaks_opens_it_again() -> None:
    clock = Clock()
    breaker = CircuitBreaker("m", clock=clock)
    for _ in range(POLICY.opens_after):
        breaker.began()
        assert breaker.state == "closed"
        breaker.failed()
    assert breaker.state == "open"
    clock.now += POLICY.first_rest
    assert breaker.allow()
    breaker.began()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"
    breaker.began()
    breaker.succeeded()
    breaker.failed()
    assert breaker.state == "closed"


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens, the breaker rests no longer than it may, and one call at most probes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = CircuitBreaker("m", clock=self.clock)
        self.probing = False

    @rule()
    def call_comes(self) -> None:
        was = self.breaker.state
        allowed = self.breaker.allow()
        assert allowed == (was == "closed" or (was == "half-open" and not self.probing))
        self.probing = self.probing or (allowed and was == "half-open")

    @rule(outcome=st.sampled_from(["succeeded", "began", "failed", "abandoned"]))
    def call_ends(self, outcome: str) -> None:
        getattr(self.breaker, outcome)()
        self.probing = False
        if outcome in ("succeeded", "began"):
            assert self.breaker.state == "closed"

    @rule(seconds=st.floats(0, 2 * POLICY.longest_rest))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def never_rests_longer(self) -> None:
        until = self.breaker._open_until
        assert until is None or until <= self.clock.now + POLICY.longest_rest


TestBreakerMachine = BreakerMachine.TestCase


@given(st.text(max_size=30))
def test_any_text_is_targets_or_a_clear_error(text: str) -> None:
    try:
        for target in parse_fallback(text):
            assert target.model and not any(c.isspace() for c in target.model)
    except TogetherAISettingsError as exc:
        assert "TOGETHER_FALLBACK" in str(exc)
