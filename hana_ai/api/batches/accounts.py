"""What batches cost: estimated before, held against the budget, and counted in the ledger after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import SecretStr

from hana_ai.api.batches.records import Batch
from hana_ai.api.batches.results import Sums
from hana_ai.api.catalog.money import EXACT, plain
from hana_ai.api.errors import TogetherAIBudgetExceededError
from hana_ai.api.usage.clock import now
from hana_ai.api.usage.record import BATCH, UsageRecord
from hana_ai.api.usage.tags import current_tags
from hana_ai.api.wire.token_counts import Tokens

if TYPE_CHECKING:
    from hana_ai.api.catalog.model_info import ModelInfo
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.usage.ledger import Ledger


class Accounts:
    """The prices of an address, and the ledger that its batches are counted in.

    Parameters
    ----------
    settings : TogetherAISettings
    ledger, models : callable
        The ledger, and the catalogue's models by name; empty where it can't be read.
    """

    def __init__(
        self,
        settings: TogetherAISettings,
        ledger: Callable[[], Ledger],
        models: Callable[[], Mapping[str, ModelInfo]],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._models = models

    @property
    def share(self) -> Decimal:
        """What a batch costs of the catalogue's prices."""
        return 1 - self._settings.together_batch_discount

    def estimated_cost(self, amounts: Mapping[str, tuple[int, int]]) -> Decimal | None:
        """USD for prompt and completion tokens by model; None if a price is unknown."""
        models = self._models()
        total = Decimal(0)
        for name, (prompt, completion) in amounts.items():
            info = models.get(name)
            cost = None if info is None else info.cost_of(Tokens(prompt, completion))
            if cost is None:
                return None
            total = EXACT.add(total, EXACT.multiply(cost, self.share))
        return total

    def admit(self, cost: Decimal | None) -> None:
        """Refuse batches, if the budget is spent or would be.

        Raises
        ------
        TogetherAIBudgetExceededError
            It is, or it would be.
        StoreError
            The ledger's database can't be used, and TOGETHER_USAGE_UNAVAILABLE=refuse.
        """
        ledger, settings = self._ledger(), self._settings
        if not ledger.admission.needed:
            return
        key = SecretStr(settings.require_api_key())
        ledger.admission.admit(settings.together_base_url, key, settings.together_timeout / 2)
        budget = ledger.budget_usd
        if budget is None or cost is None:
            return
        spent = ledger.spent_usd
        if EXACT.add(spent, cost) > budget:
            raise TogetherAIBudgetExceededError(
                f"These requests may cost ${plain(cost)}, but of the budget of ${plain(budget)} for this "
                f"{settings.together_budget_period} only ${plain(max(Decimal(0), budget - spent))} is left, so "
                "nothing was submitted. Raise TOGETHER_BUDGET_USD, or set a smaller max_tokens.",
                spent_usd=spent,
                budget_usd=budget,
                period=settings.together_budget_period,
            )

    def count(self, batch: Batch, sums: Sums) -> Decimal | None:
        """Note a batch that has ended in the ledger, unless it is there; returns its cost in USD."""
        model = batch.model or sums.model or ""
        tokens = sums.tokens
        models = self._models()
        info = models.get(model) or models.get(sums.model or "")
        cost = None if info is None else info.cost_of(tokens)
        cost = Decimal(0) if not sums.answered else None if cost is None else EXACT.multiply(cost, self.share)
        if sums.answered and not self._is_counted(batch):
            self._ledger().record(self._record(batch, model, sums))
        return cost

    def _is_counted(self, batch: Batch) -> bool:
        since = None if batch.created_at is None else batch.created_at.date()
        return any(event.request_id == batch.id for event in self._ledger().events(since))

    def _record(self, batch: Batch, model: str, sums: Sums) -> UsageRecord:
        tokens = sums.tokens
        usage: dict[str, object] = {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "cached_tokens": tokens.cached,
            "reasoning_tokens": tokens.reasoning,
        }
        seconds = 0.0
        if batch.created_at is not None and batch.completed_at is not None:
            seconds = max(0.0, (batch.completed_at - batch.created_at).total_seconds())
        return UsageRecord(
            # When it is counted: a batch is paid for when it ends, not in the period in which it was submitted.
            called_at=now(),
            operation=BATCH,
            model=model,
            answering=sums.model,
            tags=current_tags(),
            usage=usage,
            latency=seconds,
            status="ok",
            request_id=batch.id,
            price_share=self.share,
            base_url=self._settings.together_base_url,
            api_key=SecretStr(self._settings.require_api_key()),
        )
