"""The soak's bridge: its debug log names the request of each press before the press is written."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from tests.support.killable_bridge import KillableBridge
from tests.support.soak.clock import now

_SENDING = "sending "
_ACCEPTED = ": accepted"


class SoakBridge(KillableBridge):
    """A bridge whose log goes to the file `bridge.log` and is read on the way.

    Attributes:
        killed: for each kill, when it happened and when the bridge was ready again.
        stopped: for each time that it was frozen, when it was and when it continued.
        tracebacks: the lines of the log with an exception.
        levels: the number of lines of the log by level.

    Args:
        folder: for its files.
        configuration: its configuration; the log's level and format are added.
        sending: is called with serial number, msgid and request id of each press that is about to be written.
        accepted: is called with request id, serial number and person of each change that is stored.
    """

    def __init__(
        self,
        folder: Path,
        configuration: dict[str, Any],
        sending: Callable[[str, str, str | None], None],
        accepted: Callable[[str, str, str | None], None],
    ) -> None:
        super().__init__(folder, {**configuration, "logging": {"level": "debug", "format": "json"}})
        self.killed: list[tuple[float, float]] = []
        self.stopped: list[tuple[float, float]] = []
        self.tracebacks: list[str] = []
        self.levels: Counter[str] = Counter()
        self._sending = sending
        self._accepted = accepted
        self._file = folder / "bridge.log"

    async def kill_for(self, seconds: float, *, start_and_kill_after: float | None = None) -> None:
        """Kill it and start it again after this time.

        Args:
            seconds: the time.
            start_and_kill_after: first start it once and kill it after this time, ready or not.
        """
        since = now()
        self.killed.append((since, float("inf")))
        await self.kill()
        if start_and_kill_after is not None:
            await self.start_and_kill(start_and_kill_after)
        await asyncio.sleep(seconds)
        await self.start()
        self.killed[-1] = since, now()

    async def freeze_for(self, seconds: float) -> None:
        """Stop it with SIGSTOP for this time."""
        since = now()
        self.stopped.append((since, float("inf")))
        self.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.thaw()
            self.stopped[-1] = since, now()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        with self._file.open("ab") as file:
            while line := await stream.readline():
                file.write(line)
                try:
                    entry = orjson.loads(line)
                except orjson.JSONDecodeError:
                    # The program ended with a traceback, or was killed within a line.
                    self.levels["unreadable"] += 1
                    if b"Traceback" in line:
                        self.tracebacks.append(line.decode(errors="replace"))
                    continue
                self.levels[entry["level"]] += 1
                if "exception" in entry:
                    self.tracebacks.append(line.decode())
                if entry["message"].startswith(_SENDING) and "msgid" in entry:
                    self._sending(entry["sn"], entry["msgid"], entry.get("request_id"))
                if _ACCEPTED in entry["message"] and "request_id" in entry:
                    self._accepted(entry["request_id"], entry["sn"], entry.get("person_id"))
                if entry["message"].startswith("ready: "):
                    self.log += line.decode()
                    self._more.set()
