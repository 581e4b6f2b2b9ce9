"""A real browser for tests: Debian's chromium without a window, spoken to over its own protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--remote-allow-origins=*"),
)
FOUND = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """``async with Browser(folder) as page: await page.open(url)``; the profile is a new one in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ids = folder, itertools.count(1)

    async def __aenter__(self) -> Browser:
        import aiohttp

        assert FOUND is not None
        self.process = subprocess.Popen(
            [FOUND, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        told = self.folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (told.exists() and told.read_text().strip()) and time.monotonic() < end:
            time.sleep(0.1)
        port = told.read_text().split()[0]
        pages = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/json").read())
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self.session = aiohttp.ClientSession()
        self.socket = await self.session.ws_connect(address, max_msg_size=0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()
        self.process.terminate()
        self.process.wait(20)

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            told = await self.socket.receive_json(timeout=60)
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    async def open(self, url: str, width: int = 1000, height: int = 900, phone: bool = False) -> None:
        await self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && !document.body.textContent.includes('Looking for programs')")

    async def run(self, code: str) -> Any:
        found = await self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, code: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not await self.run(code):
            assert time.monotonic() < end, await self.run("document.body.innerText")

    async def choose(self, selector: str, *files: str) -> None:
        root = await self.send("DOM.getDocument")
        node = await self.send("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        await self.send("DOM.setFileInputFiles", files=list(files), nodeId=node["nodeId"])

    async def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if kind == "keyDown" and text else {}
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    async def picture(self, file: Path) -> None:
        found = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    async def named(self) -> list[tuple[str, str]]:
        """(role, name) of everything that a screen reader announces as a control."""
        nodes = (await self.send("Accessibility.getFullAXTree"))["nodes"]
        roles = ("button", "checkbox", "textbox", "combobox", "Button", "link")
        return [(n["role"]["value"], n["name"]["value"]) for n in nodes if n.get("role", {}).get("value") in roles]
