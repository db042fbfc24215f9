"""Prices: cached input apart, reasoning inside completion, unknown never 0; against arithmetic done by hand."""

from __future__ import annotations

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

from hana_ai.api._connector_answers import _usd
from hana_ai.api._connector_usage import OwnCalls, _moments
from hana_ai.api._deployment_plan import EndpointConfig, ModelReference, Plan
from hana_ai.api.catalog import ModelInfo

prices = st.decimals(min_value=0, max_value=1000, places=4)
maybe = st.none() | prices
counts = st.integers(min_value=0, max_value=10**9)


def info(input: Decimal | None, output: Decimal | None, cached: Decimal | None) -> ModelInfo:
    return ModelInfo("m", "m", frozenset({"chat"}), None, input, cached, output)


@given(input=prices, output=prices, cached=maybe, fresh=counts, again=counts, completion=counts)
def test_a_cost_is_what_it_is_by_hand(
    input: Decimal, output: Decimal, cached: Decimal | None, fresh: int, again: int, completion: int
) -> None:
    found = info(input, output, cached).cost(fresh + again, completion, again)
    by_hand = fresh * input + again * (input if cached is None else cached) + completion * output
    assert found is not None
    assert found * 1_000_000 == by_hand


@given(input=maybe, output=maybe, prompt=counts, completion=counts)
def test_an_unknown_price_is_never_zero(
    input: Decimal | None, output: Decimal | None, prompt: int, completion: int
) -> None:
    found = info(input, output, None).cost(prompt, completion)
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


@given(calls=st.lists(st.tuples(counts, counts, st.none() | prices)))
def test_the_connectors_own_count_is_exact(calls: list[tuple[int, int, Decimal | None]]) -> None:
    own = OwnCalls()
    for prompt, completion, cost in calls:
        usage = UsageMetadata(
            input_tokens=prompt,
            output_tokens=completion,
            total_tokens=prompt + completion,
            input_token_details=InputTokenDetails(cache_read=prompt),
            output_token_details=OutputTokenDetails(reasoning=completion),
        )
        own.add(usage, cost)
    totals = own.totals(*_moments(None, None))
    assert totals["total_requests"] == len(calls)
    assert totals["prompt_tokens"] == sum(call[0] for call in calls)
    # Reasoning tokens are part of the completion, cached ones of the prompt: neither is counted twice.
    assert totals["completion_tokens"] == sum(call[1] for call in calls)
    assert totals["total_tokens"] == totals["prompt_tokens"] + totals["completion_tokens"]
    costs = [call[2] for call in calls]
    if None in costs:
        assert totals["total_cost_usd"] is None
    else:
        assert totals["total_cost_usd"] == sum((cost for cost in costs if cost is not None), Decimal(0))
