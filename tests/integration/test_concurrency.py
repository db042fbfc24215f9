"""Many threads, many coroutines, many event loops: no answer is mixed up, no connection is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.service import catalog_for
from tests import upstream
from tests.conftest import ScriptedTogether, eventually
from tests.warm import Warm, warm

CEILING = 64
SLOW_STEP = re.compile(r"Executing <.* took [0-9.]+ seconds$")


@pytest.fixture
def chat(together: ScriptedTogether) -> ChatTogetherAI:
    return ChatTogetherAI(model=together.model("chat"), max_concurrency=CEILING, **together.client)


def streamed(chat: ChatTogetherAI, question: str) -> str:
    return "".join(str(chunk.content) for chunk in chat.stream(question))


async def astreamed(chat: ChatTogetherAI, question: str) -> str:
    return "".join([str(chunk.content) async for chunk in chat.astream(question)])


async def nothing_is_left(chat: ChatTogetherAI, together: ScriptedTogether) -> None:
    """No place is taken, and closing closes every connection."""
    transport = chat.transport
    assert transport.limiter(chat.model).in_use == 0
    assert together.statistics.open_connections <= CEILING
    assert together.statistics.peak_active <= CEILING
    await transport.aclose()
    await eventually(lambda: together.statistics.open_connections == 0)


@pytest.mark.parametrize("count", [100, pytest.param(200, marks=pytest.mark.slow)])
async def test_many_threads_each_get_their_own_answer(
    count: int, chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(delay=0.01))
    start = threading.Barrier(count)

    def work(number: int) -> tuple[str, str]:
        start.wait()
        question = f"question {number}"
        return question, streamed(chat, question) if number % 2 else str(chat.invoke(question).content)

    with ThreadPoolExecutor(count) as threads:
        answers = await asyncio.to_thread(lambda: list(threads.map(work, range(count))))
    assert [question for question, answer in answers if answer != question] == []
    assert len(engine.posts) == count
    await nothing_is_left(chat, together)


@pytest.mark.parametrize("count", [200, pytest.param(500, marks=pytest.mark.slow)])
async def test_many_coroutines_each_get_their_own_answer(
    count: int, chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(delay=0.01))
    # Of so many calls the ledger wants the prices, and would ask for them in between.
    await catalog_for(chat.transport.base_url, chat.transport.api_key).amodels()
    questions = [f"question {number}" for number in range(count)]

    async def work(number: int, question: str) -> str:
        return await astreamed(chat, question) if number % 2 else str((await chat.ainvoke(question)).content)

    answers = await asyncio.gather(*(work(number, question) for number, question in enumerate(questions)))
    assert list(answers) == questions
    assert len(engine.posts) == count
    await nothing_is_left(chat, together)


async def test_abatch_keeps_the_order_of_its_questions(chat: ChatTogetherAI, together: ScriptedTogether) -> None:
    questions = [f"question {number}" for number in range(100)]
    answers = await chat.abatch(questions)  # type: ignore[arg-type]
    assert [answer.content for answer in answers] == questions
    await nothing_is_left(chat, together)


async def test_errors_and_cancelled_calls_leave_nothing_behind(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    chat.max_retries = 0

    def bad_day(request: Any) -> Reply | None:
        number = int(request.body["messages"][-1]["content"].split()[-1])
        return [None, Reply(status=500), Reply(drop=True), Reply(stall=True), Reply(break_at_chunk=1)][number % 5]

    engine.always(bad_day)
    ways = (chat.ainvoke, lambda question: astreamed(chat, question))
    tasks = [asyncio.ensure_future(ways[number // 5 % 2](f"question {number}")) for number in range(50)]
    stalled = set(tasks[3::5])
    await asyncio.wait(set(tasks) - stalled, timeout=20)
    assert all(not task.done() for task in stalled)
    for task in stalled:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(not isinstance(outcomes[number], BaseException) for number in range(0, 50, 5))
    assert all(isinstance(outcomes[number], RuntimeError) for number in range(1, 50, 5))
    assert all(isinstance(outcomes[number], asyncio.CancelledError) for number in range(3, 50, 5))
    await eventually(lambda: together.statistics.active == 0)
    await nothing_is_left(chat, together)


def test_a_second_event_loop_goes_on_with_the_connections_of_the_first(
    chat: ChatTogetherAI, together: ScriptedTogether
) -> None:
    async def several() -> list[Any]:
        return list(await asyncio.gather(*(chat.ainvoke(f"question {number}") for number in range(5))))

    for _ in range(3):
        assert [answer.content for answer in asyncio.run(several())] == [f"question {n}" for n in range(5)]
        # Connections outlive the loop.
        assert 0 < together.statistics.open_connections <= 5


def test_event_loops_in_threads_do_not_meet(chat: ChatTogetherAI, together: ScriptedTogether) -> None:
    async def several(thread: int) -> list[str]:
        questions = [f"thread {thread} question {number}" for number in range(10)]
        answers = await asyncio.gather(*(chat.ainvoke(question) for question in questions))
        return [str(answer.content) for answer in answers]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda thread: asyncio.run(several(thread)), range(8)))
    assert found == [[f"thread {thread} question {number}" for number in range(10)] for thread in range(8)]
    asyncio.run(nothing_is_left(chat, together))


async def test_threads_and_coroutines_share_one_bound(together: ScriptedTogether, engine: ScriptedEngine) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), max_concurrency=4, **together.client)
    engine.always(Reply(delay=0.02))
    with ThreadPoolExecutor(20) as threads:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(threads, chat.invoke, f"question {number}") for number in range(20)]
        answers = await asyncio.gather(*calls, *(chat.ainvoke(f"question {number}") for number in range(20, 40)))
    assert [answer.content for answer in answers] == [f"question {number}" for number in range(40)]
    assert together.statistics.peak_active <= 4
    await nothing_is_left(chat, together)


PROGRAMS = {
    "nothing is closed": """
        async def leave():
            async for _ in chat.astream("a b c d"):
                break

        async def cancel():
            tasks = [asyncio.ensure_future(chat.ainvoke("a")) for _ in range(10)]
            await asyncio.sleep(0.01)
            [task.cancel() for task in tasks]
            await asyncio.gather(*tasks, return_exceptions=True)

        chat.invoke("a")
        for work in (main, main, leave, cancel):
            asyncio.run(work())
        for _ in chat.stream("a b c d"):
            break
        threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(5)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    """,
    "it closes within its loop": """
        async def all_of_it():
            await main()
            await chat.transport.aclose()
            await main()
            await asyncio.to_thread(chat.transport.close)
            await asyncio.sleep(0.1)

        asyncio.run(all_of_it())
        asyncio.run(all_of_it())
    """,
    "it closes without a loop": """
        asyncio.run(main())
        chat.invoke("a")
        chat.transport.close()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        chat.transport.close()
        loop.close()
    """,
}


@pytest.fixture(scope="module")
def strict() -> Iterator[Warm]:
    """Starts programs that tell of everything that they leave."""
    # Deprecations of the libraries, met while they are imported, are not what is looked for.
    options = ["-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning", *upstream.IGNORED]
    with warm("hana_ai.api.chat_models", "langchain_core.tracers.langchain", options=options) as started:
        yield started


@pytest.mark.parametrize("how", PROGRAMS)
def test_a_program_ends_without_a_warning_when(together: ScriptedTogether, strict: Warm, how: str) -> None:
    program = (
        textwrap.dedent(
            """
            import asyncio
            import gc
            import threading
            from hana_ai.api.chat_models import ChatTogetherAI

            chat = ChatTogetherAI()

            async def main():
                answers = await asyncio.gather(*(chat.ainvoke(f"question {n}") for n in range(5)))
                assert [answer.content for answer in answers] == [f"question {n}" for n in range(5)]
                async for _ in chat.astream("a b c"):
                    pass
            """
        )
        + textwrap.dedent(PROGRAMS[how])
        + "\ngc.collect()\nprint('done')\n"
    )
    environment = {**os.environ, **together.environment(), "TOGETHER_DEFAULT_MODEL": together.model("chat")}
    running = strict.start(program, environment=environment)
    out, err = running.communicate()
    # In dev mode asyncio tells of every step that takes long on a busy machine.
    told = [line for line in err.splitlines() if not SLOW_STEP.match(line)]
    assert (out, told, running.returncode) == ("done\n", [], 0)
    asyncio.run(eventually(lambda: together.statistics.open_connections == 0))
