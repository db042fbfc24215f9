"""The engine in the kinds of processes that users run, each of them real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hana_ai.api.local.together import ScriptedEngine
from tests import upstream
from tests.conftest import ScriptedTogether
from tests.programs import warmed
from tests.warm import CALLS, Started, Warm

CHECKOUT = Path(__file__).parents[3]
START = f"""
import hana_ai
hana_ai.__path__ = [{str(CHECKOUT / "hana_ai")!r}, *hana_ai.__path__]
from hana_ai.api import ChatTogetherAI
chat = ChatTogetherAI(model={ScriptedEngine.CHAT!r})
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def environment(together_environment: ScriptedTogether) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "TOGETHER_TIMEOUT": "30"}


programs = warmed(*CALLS, "gunicorn.app.wsgiapp", "uvicorn_worker")


def forked(programs: Warm, script: str, environment: dict[str, str], *arguments: str) -> str:
    """Run a script to its end, without importing; it must end well and say nothing on its standard error."""
    ended = programs.run(script, *arguments, environment=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stderr == ""
    return ended.stdout


def run(script: str, environment: dict[str, str], *arguments: str, options: tuple[str, ...] = ()) -> str:
    """Run a script to its end; it must end well and say nothing on its standard error."""
    ended = subprocess.run(
        [sys.executable, *upstream.IGNORED, *options, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stderr == ""
    return ended.stdout


FORKS_ON_PURPOSE = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
"""From Python 3.12 on, a fork beside other threads is warned of."""

FORKS = (
    FORKS_ON_PURPOSE
    + START
    + """
import os, sys, threading, time
forks = int(sys.argv[1])
# Warm: a child whose parent was just importing a module, in another thread, can't import it.
chat.invoke("hello"), list(chat.stream("hello"))
done = threading.Event()
def ask():
    while not done.is_set():
        chat.invoke("hello")
threads = [threading.Thread(target=ask, daemon=True) for _ in range(40)]
for thread in threads:
    thread.start()
children = []
for number in range(forks):
    child = os.fork()
    if child == 0:
        try:
            answer = chat.invoke(f"child {number}").content
            streamed = "".join(chunk.content for chunk in chat.stream("a stream"))
            os._exit(0 if (answer, streamed) == (f"child {number}", "a stream") else 3)
        except BaseException:
            os._exit(4)
    children.append(child)
    while len(children) >= 8:
        child, status = os.wait()
        assert os.waitstatus_to_exitcode(status) == 0, status
        children.remove(child)
while children:
    child, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == 0, status
    children.remove(child)
done.set()
for thread in threads:
    thread.join(30)
print("parent:", chat.invoke("still here").content)
"""
)


@pytest.mark.parametrize("forks", [15, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_no_child_hangs_that_is_forked_amid_calls(programs: Warm, environment: dict[str, str], forks: int) -> None:
    assert forked(programs, FORKS, environment, str(forks)) == "parent: still here\n"


APPLICATION = (
    START
    + """
import os
before_the_fork = chat.invoke("preloaded").content

def wsgi(environ, start_response):
    question = environ["QUERY_STRING"]
    answer = "".join(part.content for part in chat.stream(question)) + "|" + chat.invoke(question).content
    start_response("200 OK", [("content-type", "text/plain")])
    return [f"{before_the_fork} {os.getpid()} {answer}".encode()]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    question = scope["query_string"].decode()
    streamed = "".join([part.content async for part in chat.astream(question)])
    answer = streamed + "|" + (await chat.ainvoke(question)).content
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{before_the_fork} {os.getpid()} {answer}".encode()})
"""
)


GUNICORN = """
from gunicorn.app.wsgiapp import run
run(prog="gunicorn")
"""


@contextmanager
def gunicorn(
    programs: Warm, environment: dict[str, str], worker: str, *arguments: str
) -> Iterator[Started | subprocess.Popen[str]]:
    """Run gunicorn; it is killed in the end, should it run.

    A process that has imported everything is forked for it, but for greenlets: these come before all imports.
    """
    arguments = ("--preload", "--workers", "2", "--worker-class", worker, "--bind", "127.0.0.1:0", *arguments)
    if worker != "gevent":
        with programs.begun(GUNICORN, *arguments, environment=environment) as forked:
            yield forked
        return
    command = [sys.executable, "-m", "gunicorn", *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def served(programs: Warm, environment: dict[str, str], worker: str, application: str) -> Iterator[str]:
    """Serve the application with gunicorn; gives its address."""
    Path("application.py").write_text(APPLICATION)
    arguments = ["--chdir", str(Path.cwd()), *(["--threads", "4"] if worker == "gthread" else [])]
    arguments += ["--graceful-timeout", "10", f"application:{application}"]
    said: list[str] = []
    with gunicorn(programs, environment, worker, *arguments) as server:
        lines = server.stderr
        assert lines is not None
        for line in lines:
            said.append(line)
            if found := re.search(r"Listening at: (http://127\.0\.0\.1:\d+)", line):
                break
        else:
            raise AssertionError("".join(said)[-3000:])
        # Read on in a thread, so that the server never waits for a full pipe.
        reader = threading.Thread(target=lambda: said.extend(lines), daemon=True)
        reader.start()
        try:
            yield found.group(1)
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, "".join(said)[-3000:]
        finally:
            server.send_signal(signal.SIGKILL)
            reader.join(30)
    assert "Traceback" not in "".join(said), "".join(said)[-3000:]


@pytest.mark.parametrize(
    ("worker", "application"),
    [
        ("sync", "wsgi"),
        ("gthread", "wsgi"),
        ("gevent", "wsgi"),
        ("uvicorn_worker.UvicornWorker", "asgi"),
    ],
)
def test_gunicorn_with_a_preloaded_application(
    programs: Warm, environment: dict[str, str], worker: str, application: str
) -> None:
    def ask(number: int) -> list[str]:
        with urllib.request.urlopen(f"{address}/?question{number}", timeout=60) as answer:
            return str(answer.read().decode()).split()

    with served(programs, environment, worker, application) as address, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(24)))
    assert [answer[0] for answer in answers] == ["preloaded"] * 24
    assert [answer[2] for answer in answers] == [f"question{number}|question{number}" for number in range(24)]


GEVENT = (
    "from gevent import monkey; monkey.patch_all()\n"
    + START
    + """
import asyncio, gevent, threading
assert monkey.is_object_patched("threading", "local")
ticks = []
def tick():
    while True:
        gevent.sleep(0.005)
        ticks.append(1)
gevent.spawn(tick)
jobs = [gevent.spawn(lambda n=n: chat.invoke(f"question {n}").content) for n in range(40)]
gevent.joinall(jobs, timeout=240, raise_error=True)
assert [job.value for job in jobs] == [f"question {n}" for n in range(40)], jobs
streams = [gevent.spawn(lambda n=n: "".join(c.content for c in chat.stream(f"a b {n}"))) for n in range(8)]
gevent.joinall(streams, timeout=240, raise_error=True)
assert [stream.value for stream in streams] == [f"a b {n}" for n in range(8)]
lost = gevent.spawn(chat.invoke, "lost")
lost.kill()
print(chat.invoke("still here").content, len(ticks) > 3)
"""
)


def test_greenlets_wait_for_their_answers_side_by_side(environment: dict[str, str]) -> None:
    assert run(GEVENT, environment, options=("-W", "ignore")) == "still here True\n"


PREFORK = (
    FORKS_ON_PURPOSE
    + START
    + """
import os, random, signal, sys
class SoftTimeLimit(Exception):
    pass
def ring(*_):
    raise SoftTimeLimit
def unraisable(event):
    # The handler may run inside a weak reference's callback or a finalizer: Python only prints what comes out
    # of those, and the limit is missed, as it is in Celery.
    if not isinstance(event.exc_value, SoftTimeLimit):
        sys.__unraisablehook__(event)
sys.unraisablehook = unraisable
chat.invoke("the parent's connection")
def work(seed):
    chance = random.Random(seed)
    signal.signal(signal.SIGALRM, ring)
    limited = 0
    for number in range(40):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.choice([0.0005, 0.002, 0.004, 0.02]))
                chat.invoke(f"task {number}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except SoftTimeLimit:
            limited += 1
    assert chat.invoke("after all").content == "after all"
    assert chat.transport.limiter(chat.model).in_use == 0
    return limited
children = {}
for seed in range(4):
    child = os.fork()
    if child == 0:
        status = 4
        try:
            work(seed)
            status = 0
        finally:
            os._exit(status)
    children[child] = seed
while children:
    child, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == 0, children.pop(child)
    children.pop(child)
print(chat.invoke("the parent").content)
"""
)


def test_prefork_workers_with_soft_time_limits(programs: Warm, environment: dict[str, str]) -> None:
    assert forked(programs, PREFORK, environment) == "the parent\n"


RERUNS = (
    START
    + """
import asyncio, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
class Rerun(BaseException):
    pass
answers = []
def script(number):
    # Streamlit runs its script in a new thread each time, which has a loop of its own or none at all.
    try:
        for part in chat.stream(f"run {number} of the script"):
            if number % 3 == 0:
                raise Rerun
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        answers.append(loop.run_until_complete(chat.ainvoke(f"{number}")).content)
        if number % 2:
            loop.close()
    except Rerun:
        pass
for number in range(30):
    threads = [threading.Thread(target=script, args=(number + offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
print(len(answers), chat.transport.limiter(chat.model).in_use <= 30)
"""
)


def test_a_script_that_is_run_again_in_a_new_thread_each_time(programs: Warm, environment: dict[str, str]) -> None:
    assert forked(programs, RERUNS, environment) == "60 True\n"


LOOPS = (
    START
    + """
import asyncio, logging, sys
# With -X dev, asyncio warns of steps that take long, as the first imports do.
logging.getLogger("asyncio").setLevel(logging.ERROR)
async def main(number):
    answer = await chat.ainvoke(f"loop {number}")
    stream = chat.astream("one two three")
    await anext(stream)
    if number % 2:
        await stream.aclose()
    return answer.content
print([asyncio.run(main(number)) for number in range(20)] == [f"loop {number}" for number in range(20)])
"""
)


CHECKED = "import warnings; warnings.simplefilter('default')\n"
"""With PYTHONASYNCIODEBUG, what -X dev sets but for what an interpreter only does from its start."""


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
def test_event_loops_one_after_the_other(programs: Warm, environment: dict[str, str], checked: bool) -> None:
    script = (CHECKED if checked else "") + LOOPS
    more = {"PYTHONASYNCIODEBUG": "1"} if checked else {}
    assert forked(programs, script, {**environment, **more}) == "True\n"


@pytest.mark.slow
def test_event_loops_one_after_the_other_in_development_mode(environment: dict[str, str]) -> None:
    assert run(LOOPS, environment, options=("-X", "dev")) == "True\n"


def test_a_notebook_calls_with_and_without_await(environment: dict[str, str], tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(START),
        nbformat.v4.new_code_cell("[chat.invoke('one').content, (await chat.ainvoke('two')).content]"),
        nbformat.v4.new_code_cell("''.join(part.content for part in chat.stream('a stream'))"),
        nbformat.v4.new_code_cell("''.join([part.content async for part in chat.astream('another one')])"),
    ]
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute(env=environment)
    shown = [json.dumps(cell["outputs"][0]["data"]["text/plain"]) for cell in notebook.cells[1:]]
    assert shown == [json.dumps("['one', 'two']"), json.dumps("'a stream'"), json.dumps("'another one'")]
