"""Pages as Chromium shows them, over its DevTools protocol: how wide they are and what goes wrong in them."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, DESKTOP = 390, 1440
_LONGEST = 60.0
"""Seconds that a page, or an answer of the browser, may take on a machine that is busy."""


@dataclass
class Sight:
    """A page as it was shown."""

    width: int
    """CSS pixels of the window."""
    content_width: int
    """CSS pixels that the page takes; more than `width` scrolls sideways."""
    errors: list[str]
    """What the console has as errors, exceptions, and requests that failed."""
    elsewhere: list[str]
    """What was asked of another host than the page's own."""
    picture: bytes
    """A PNG of what is in the window, or of the whole page."""


@dataclass
class _Heard:
    """What a page has reported since it was opened."""

    errors: list[str] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Browser:
    """A Chromium with a profile of its own; `with Browser() as browser` starts and ends it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._heard = _Heard()
        self._session_id: str | None = None
        self._target_id: str | None = None

    def __enter__(self) -> Self:
        assert CHROMIUM is not None, "there is no Chromium"
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
        # Nothing beyond loopback has an address.
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--hide-scrollbars"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={self._profile.name}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert self._process.stderr is not None
        # It says where it listens, after whatever it has to complain about.
        address = next(line.split()[-1] for line in self._process.stderr if "DevTools listening on" in line)
        self._reader = Thread(target=self._process.stderr.read, daemon=True)
        self._reader.start()
        self._runner.run(self._connect(address))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._disconnect())
        self._runner.close()
        self._process.wait(_LONGEST)
        self._reader.join(_LONGEST)
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._profile.cleanup()

    def look(self, url: str, width: int = DESKTOP, *, dark: bool = False, whole: bool = False) -> Sight:
        """Open a page in a window of so many CSS pixels, and wait until nothing more is fetched."""
        return self._runner.run(self._look(url, width, dark=dark, whole=whole))

    def value(self, expression: str) -> Any:
        """What JavaScript gives in the page, promises awaited."""
        return self._runner.run(self._value(expression))

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """A call of the DevTools protocol, to the page."""
        return self._runner.run(self._call(method, **parameters))

    async def _connect(self, address: str) -> None:
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(address, max_msg_size=0)
        self._listener = asyncio.create_task(self._listen())

    async def _disconnect(self) -> None:
        self._session_id = None
        await self._call("Browser.close")
        await self._socket.close()
        await self._listener
        await self._http.close()

    async def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        number = len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {} if self._session_id is None else {"sessionId": self._session_id}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **session})
        found = await asyncio.wait_for(answer, _LONGEST)
        assert "error" not in found, f"{method}: {found}"
        result: dict[str, Any] = found["result"]
        return result

    async def _listen(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            said = message.json()
            if "id" in said:
                self._answers[said["id"]].set_result(said)
            elif said.get("sessionId") == self._session_id:
                self._hear(said["method"], said["params"])

    def _hear(self, method: str, said: dict[str, Any]) -> None:
        heard = self._heard
        match method:
            case "Runtime.exceptionThrown":
                details = said["exceptionDetails"]
                heard.errors.append(str(details.get("exception", {}).get("description", details["text"])))
            case "Runtime.consoleAPICalled" if said["type"] in ("error", "assert"):
                heard.errors.append(" ".join(str(one.get("value", one)) for one in said["args"]))
            case "Log.entryAdded" if said["entry"]["level"] == "error":
                heard.errors.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                heard.urls[said["requestId"]] = said["request"]["url"]
            case "Network.loadingFailed":
                heard.errors.append(f"{said['errorText']} {heard.urls.get(said['requestId'], '')}")
            case "Page.lifecycleEvent" if said["name"] == "networkIdle" and heard.urls:
                heard.idle.set()

    async def _look(self, url: str, width: int, *, dark: bool, whole: bool) -> Sight:
        await self._new_page()
        height = 844 if width < 800 else 900
        await self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._call("Emulation.setEmulatedMedia", features=[scheme])
        await self._call("Page.navigate", url=url)
        heard = self._heard
        await asyncio.wait_for(heard.idle.wait(), _LONGEST)
        # Two frames later, what scripts change when the page is there has been drawn.
        await self._value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        content_width = await self._value("document.scrollingElement.scrollWidth")
        drawn = await self._call("Page.captureScreenshot", captureBeyondViewport=whole, **await self._part(whole))
        origin = urlsplit(url)[:2]
        outside = [one for one in heard.urls.values() if not one.startswith(("data:", "blob:"))]
        return Sight(
            width,
            content_width,
            heard.errors,
            [one for one in outside if urlsplit(one)[:2] != origin],
            base64.b64decode(drawn["data"]),
        )

    async def _new_page(self) -> None:
        """A page of which nothing was asked yet, in the place of the last."""
        self._session_id = None
        if self._target_id is not None:
            await self._call("Target.closeTarget", targetId=self._target_id)
        self._target_id = (await self._call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self._call("Target.attachToTarget", targetId=self._target_id, flatten=True)
        self._heard = _Heard()
        self._session_id = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._call(f"{domain}.enable")
        await self._call("Page.setLifecycleEventsEnabled", enabled=True)

    async def _part(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = (await self._call("Page.getLayoutMetrics"))["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    async def _value(self, expression: str) -> Any:
        found = await self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Served:
    """A folder over HTTP on loopback; `with Served(folder) as url`."""

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))

    def __enter__(self) -> str:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
