"""The connector's figures: what its own calls used, and how endpoints have done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import date, datetime
from typing import TYPE_CHECKING

from hana_ai.api.connector.analytics import EndpointAnalytics, endpoint_analytics
from hana_ai.api.connector.billing import UsageStats, usage_stats

if TYPE_CHECKING:
    from hana_ai.api.connector.account import Account


class Figures(ABC):
    """What a connector tells of the past."""

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
