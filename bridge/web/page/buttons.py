"""Buttons that act once: each rendered button has a token, and the same token never acts twice."""

import asyncio
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from bridge.core.clock import Clock
from bridge.core.tasks import BackgroundTasks
from bridge.model.reply import Reply
from bridge.net.listening import wait_for_tasks
from bridge.web.errors import RequestError

_MAX_USED = 2_000
"""Tokens that were used and are remembered with their reply. If there are more, tokens that were issued before the
forgotten ones are refused."""

_MAX_AGE_SECONDS = 12 * 3600.0
"""A page that stays open through a shift can still be used."""

_MAX_UNDATED_SECONDS = 120.0
"""A browser without JavaScript cannot say when the button was pressed, so its token is short-lived."""

_TOKEN = re.compile(r"([0-9]{1,15})\.([0-9a-f]{16})\.([0-9a-f]{32})")


class UnusableButtonError(Exception):
    """A button whose token is malformed, too old, or from before a restart of the bridge."""


@dataclass(frozen=True, slots=True)
class Press:
    """A pressed button.

    Attributes:
        token: the button's token.
        pressed_at: the earliest time (`Clock.boottime`) at which it can have been pressed.
    """

    token: str
    pressed_at: float


class Buttons:
    """Issues the tokens of buttons, and runs what a button does at most once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._used: OrderedDict[str, asyncio.Task[Reply]] = OrderedDict()
        self._tasks = BackgroundTasks()
        self._refused_until_ms = 0
        self._stopping = False

    def issue(self, purpose: str) -> str:
        """Return a new token.

        Args:
            purpose: the action and its target; the token is valid for nothing else.
        """
        issued, nonce = str(int(self._clock.boottime() * 1000)), secrets.token_hex(8)
        return f"{issued}.{nonce}.{self._signature(purpose, issued, nonce)}"

    def read(self, purpose: str, token: str, pressed_ms: str) -> Press:
        """Return the press of a button.

        Args:
            purpose: as for `issue`.
            token: the token.
            pressed_ms: the earliest time of the press by the bridge's clock, in milliseconds; empty if the browser does
                not know it. It is bounded by the time of `issue` and the present.

        Raises:
            UnusableButtonError: the token is not valid (any more).
        """
        found = _TOKEN.fullmatch(token)
        if found is None or not hmac.compare_digest(found[3], self._signature(purpose, found[1], found[2])):
            raise UnusableButtonError
        issued_at, now = int(found[1]) / 1000, self._clock.boottime()
        if token not in self._used and int(found[1]) <= self._refused_until_ms:
            raise UnusableButtonError
        is_dated = re.fullmatch(r"[0-9]{1,15}", pressed_ms) is not None
        if now - issued_at > (_MAX_AGE_SECONDS if is_dated else _MAX_UNDATED_SECONDS):
            raise UnusableButtonError
        return Press(token, min(max(int(pressed_ms) / 1000, issued_at), now) if is_dated else now)

    async def run(self, press: Press, action: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
        """Run an action, or return the reply of the action that the same token has run.

        The action goes on if the client disconnects.

        Raises:
            RequestError: the bridge is stopping.
        """
        task = self._used.get(press.token)
        if task is None:
            if self._stopping:
                raise RequestError(503, "the bridge is stopping; not carried out")
            task = self._tasks.start(action(), name="button of the page")
            self._used[press.token] = task
            self._forget_oldest()
        await asyncio.wait((task,))
        if task.cancelled():
            raise RequestError(503, "the bridge stopped before the terminal answered")
        return task.result()

    def result(self, token: str) -> Awaitable[Reply] | None:
        """Return the reply of a token that was used; None for another one."""
        task = self._used.get(token)
        return None if task is None else asyncio.shield(task)

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more presses, and cancel those that still run after `grace_seconds`."""
        self._stopping = True
        await wait_for_tasks({task for task in self._used.values() if not task.done()}, grace_seconds)
        await self._tasks.stop()

    def _forget_oldest(self) -> None:
        while len(self._used) > _MAX_USED:
            token, _ = self._used.popitem(last=False)
            self._refused_until_ms = max(self._refused_until_ms, int(token.partition(".")[0]))

    def _signature(self, purpose: str, issued: str, nonce: str) -> str:
        return hmac.digest(self._key, f"{purpose} {issued} {nonce}".encode(), "sha256").hex()[:32]
