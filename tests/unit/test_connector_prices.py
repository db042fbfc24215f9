"""Prices: cached input apart, reasoning inside completion, unknown never 0; against arithmetic done by hand."""

from __future__ import annotations

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.catalog.model_info import ModelInfo
from hana_ai.api.connector.answers import _usd
from hana_ai.api.connector.deployment_plan import EndpointConfig, ModelReference, Plan
from hana_ai.api.wire.token_counts import Tokens

prices = st.decimals(min_value=0, max_value=1000, places=4)
maybe = st.none() | prices
counts = st.integers(min_value=0, max_value=10**9)


def info(input: Decimal | None, output: Decimal | None, cached: Decimal | None) -> ModelInfo:
    return ModelInfo("m", "m", frozenset({"chat"}), None, input, cached, output)


@given(input=prices, output=prices, cached=maybe, fresh=counts, again=counts, completion=counts)
def test_a_cost_is_what_it_is_by_hand(
    input: Decimal, output: Decimal, cached: Decimal | None, fresh: int, again: int, completion: int
) -> None:
    found = info(input, output, cached).cost_of(Tokens(fresh + again, completion, again))
    by_hand = fresh * input + again * (input if cached is None else cached) + completion * output
    assert found is not None
    assert found * 1_000_000 == by_hand


@given(input=maybe, output=maybe, prompt=counts, completion=counts)
def test_an_unknown_price_is_never_zero(
    input: Decimal | None, output: Decimal | None, prompt: int, completion: int
) -> None:
    found = info(input, output, None).cost_of(Tokens(prompt, completion))
    if input is None or (output is None and completion):
        assert found is None
        assert math.isnan(_usd(found))
        assert f"{_usd(found):.6f}" == "nan"
    else:
        assert found is not None


@given(
    cents=st.integers(min_value=0, max_value=10**6),
    least=st.integers(min_value=1, max_value=64),
    more=st.integers(min_value=0, max_value=64),
)
def test_the_price_of_replicas_is_named_as_a_span(cents: int, least: int, more: int) -> None:
    wanted = EndpointConfig.read({"min_replicas": least, "max_replicas": least + more})
    plan = Plan(ModelReference("p", "r", "n"), "c", "1xgpu", Decimal(cents) / 100, wanted)
    low, high = (f"{cents * count // 100}.{cents * count % 100:02}" for count in (least, least + more))
    assert plan.price == f"{low if not more else f'{low} to {high}'} USD per hour on 1xgpu"


def test_hardware_without_a_price_is_not_free() -> None:
    plan = Plan(ModelReference("p", "r", "n"), "c", "1xgpu", None, EndpointConfig())
    assert "unlisted price" in plan.price
