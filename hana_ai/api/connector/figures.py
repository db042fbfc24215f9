"""The connector's figures: what its own calls used, how endpoints have done, and what one would cost."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, TypedDict

from hana_ai.api.connector.analytics import EndpointAnalytics, endpoint_analytics
from hana_ai.api.connector.billing import UsageStats, usage_stats
from hana_ai.api.connector.deployment_plan import EndpointConfig, make_plan, require_model

if TYPE_CHECKING:
    from hana_ai.api.connector.account import Account


class EndpointEstimate(TypedDict):
    """What a dedicated endpoint would be, and cost."""

    model: str
    hardware: str
    price_per_hour_usd: float
    """USD for `min_replicas`; NaN if the hardware has no listed price."""
    most_per_hour_usd: float
    """USD for `max_replicas`."""
    serverless: bool
    """Whether the model can be asked without an endpoint."""


class Figures(ABC):
    """What a connector tells without changing anything."""

    @property
    @abstractmethod
    def _account(self) -> Account:
        """The account that it is connected to."""

    async def get_usage_stats(
        self,
        start_date: str | date | datetime | None = None,
        end_date: str | date | datetime | None = None,
    ) -> UsageStats:
        """Sum up calls, tokens and costs from the ledger, beside Together's own bill.

        Parameters
        ----------
        start_date, end_date : str, date or datetime, optional
            Strings are ISO dates or times; both days are included; times without a zone are UTC. Default: the
            current month.

        Returns
        -------
        UsageStats
            `total_cost_usd` does not include `unknown_cost_requests`, and is NaN if no cost is known. `billed` is
            what the billing API says about the organisation on the same days, or None where it is not enabled; the
            two are never mixed.

        Raises
        ------
        ValueError
            A date can't be parsed, or the end is before the start.
        """
        return await usage_stats(self._account, start_date, end_date)

    async def get_endpoint_analytics(
        self,
        id: str,
        start_time: str | date | datetime | None = None,
        end_time: str | date | datetime | None = None,
        granularity: str | None = None,
    ) -> EndpointAnalytics:
        """Read how a dedicated endpoint has done: requests, tokens, latency percentiles and errors.

        Together measures it, for all who ask the endpoint.

        Parameters
        ----------
        id : str
            An endpoint's or a deployment's id; a deployment alone counts then.
        start_time, end_time : str, date or datetime, optional
            As in `get_usage_stats`: the day of `end_time` is included, a time is not. Default: the last 24 hours.
        granularity : str, optional
            Length of a bucket, such as ``"1m"``, ``"1h"`` or ``"1d"``; with it, `time_series` has the metrics of
            each bucket.

        Returns
        -------
        EndpointAnalytics
            Of the endpoint and of each of its deployments; what the server does not say is None.

        Raises
        ------
        TogetherAIInputError
            `id` is neither, as that of an alias; or a time can't be parsed, or the end is before the start.
        TogetherAIModelNotFoundError
            There is no such endpoint or deployment.
        TogetherAIInvalidRequestError
            The server does not take the granularity.
        """
        return await endpoint_analytics(self._account, id, start_time, end_time, granularity)

    async def estimate_endpoint(
        self, model_name: str, endpoint_config: Mapping[str, object] | None = None
    ) -> EndpointEstimate:
        """Find out what a dedicated endpoint would be and cost; nothing is created.

        Parameters
        ----------
        model_name, endpoint_config
            As in `create_endpoint`.

        Raises
        ------
        TogetherAIInputError
            The configuration is wrong, or the model cannot be deployed with it.
        TogetherAIModelNotFoundError
            Together does not know the model.
        """
        account, wanted = self._account, EndpointConfig.read(endpoint_config)
        plan = await make_plan(account, await require_model(account, model_name), wanted)
        price = math.nan if plan.price_per_hour is None else float(plan.price_per_hour)
        return EndpointEstimate(
            model=plan.model.name,
            hardware=plan.hardware,
            price_per_hour_usd=price * wanted.min_replicas,
            most_per_hour_usd=price * wanted.most_replicas,
            serverless=model_name in await account.catalog.amodels(),
        )
