"""Blocks of `stay` and `tenant` hold for their thread or coroutine, and for what copies its context."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest

from hana_ai.api import routing
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.routing import models, scopes
from tests.conftest import ScriptedTogether
from tests.secrets_watch import MARK

KEY = f"{MARK}-tenant"


def test_a_block_ends_with_its_end_also_by_an_error() -> None:
    with pytest.raises(KeyError), routing.stay():
        assert models.is_staying()
        with routing.tenant(KEY):
            assert models.is_staying()
        raise KeyError
    assert not models.is_staying()


def test_a_function_can_be_decorated() -> None:
    @routing.stay()
    def inside() -> bool:
        return models.is_staying()

    assert [inside(), models.is_staying(), inside()] == [True, False, True]


async def test_tasks_and_their_threads_are_in_the_block_that_began_them_and_in_no_other() -> None:
    async def staying() -> tuple[bool, bool]:
        await asyncio.sleep(0)
        return models.is_staying(), await asyncio.to_thread(models.is_staying)

    async def block() -> tuple[bool, bool]:
        with routing.stay():
            return await asyncio.create_task(staying())

    assert await asyncio.gather(block(), staying(), block()) == [(True, True), (False, False), (True, True)]


def test_a_thread_of_its_own_is_in_no_block_unless_the_context_is_copied() -> None:
    with ThreadPoolExecutor(1) as pool, routing.stay():
        assert pool.submit(models.is_staying).result(60) is False
        assert pool.submit(contextvars.copy_context().run, models.is_staying).result(60) is True


def test_the_innermost_tenant_counts_and_its_key_is_shown_nowhere(together_environment: ScriptedTogether) -> None:
    with routing.tenant(KEY), routing.tenant(f"{KEY}-2", "http://127.0.0.1:1"):
        settings = models.current_settings()
        assert settings.together_base_url == "http://127.0.0.1:1"
        assert settings.require_api_key() == f"{KEY}-2"
        assert KEY not in repr(scopes.current())
    assert models.current_settings().together_base_url == together_environment.base_url


def test_what_is_no_key_is_refused_without_showing_it() -> None:
    with routing.tenant(f"{KEY} with a blank"), pytest.raises(TogetherAISettingsError, match="is not a key"):
        models.embeddings("a")
