"""A headless Chromium that tests steer through its pipe (the DevTools protocol)."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-pipe",
    "--disable-dev-shm-usage",
)


def chromium() -> str:
    """The browser's path; without one the test is skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser here (looked for {', '.join(NAMES)})")
    return found


class Browser:
    """One page in a browser of its own."""

    def __init__(self, profile: Path) -> None:
        ours_out, to_us = os.pipe()
        from_us, ours_in = os.pipe()
        # The browser reads from file 3 and writes to file 4.
        start = f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}'
        command = ["bash", "-c", start, chromium(), *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(from_us, to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(from_us)
        os.close(to_us)
        self._out, self._in = os.fdopen(ours_out, "rb"), os.fdopen(ours_in, "wb", buffering=0)
        self._rest, self._last, self._session = b"", 0, None
        (target,) = (one for one in self._targets() if one["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()

    def open(self, page: Path, *, width: int = 1400, height: int = 900) -> None:
        """Show a page and wait until it is complete."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Page.navigate", url=page.as_uri())
        self.wait()

    def reload(self) -> None:
        self.do("window.isOld = true")
        self._call("Page.reload")
        self.wait("!window.isOld")

    def wait(self, condition: str = "true") -> None:
        """Wait until the page is complete and the condition holds there."""
        moment = "new Promise(go => setTimeout(go, 20))"
        for _ in range(500):
            if self.do(
                f"document.readyState === 'complete' && location.protocol === 'file:' && ({condition})"
            ):
                return
            self.do(moment)
        raise AssertionError(f"it does not become true: {condition}")

    def do(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        done = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def _targets(self) -> list[dict[str, Any]]:
        targets: list[dict[str, Any]] = self._call("Target.getTargets")["targetInfos"]
        return targets

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._in.write(json.dumps(message).encode() + b"\0")
        while True:  # events come between the answers
            answer = self._message()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._out.fileno(), 1 << 16)
            assert read, "the browser has ended"
            self._rest += read
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message
