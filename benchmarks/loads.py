"""Loads: commands that are published in a pattern, and the time until the reply of each.

There are no tasks and no futures for single commands: a callback handles a reply and publishes the next command. So the
load generator needs less than the shortest bridge.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from random import Random
from time import perf_counter

import orjson

from benchmarks.harness import System
from benchmarks.load_client import TIMEOUT_SECONDS
from benchmarks.photos import base64_photos

Command = tuple[str, bytes, bytes]
"""Request id, topic and payload."""

_numbers = count()
_photos = base64_photos()


def presses(system: System) -> Iterator[Command]:
    """Yield presses; the terminals take turns."""
    for turn in count():
        request_id = f"press-{next(_numbers)}"
        yield request_id, system.topic(turn, "open"), b'{"request_id":"%b"}' % request_id.encode()


def persons(system: System) -> Iterator[Command]:
    """Yield changes that add a new person with a new photo; the terminals take turns."""
    for turn in count():
        number = next(_numbers)
        request_id = f"person-{number}"
        payload = b'{"persons":[{"id":"%d","name":"Person %d","photo":"%b"}],"request_id":"%b"}' % (
            number, number, next(_photos), request_id.encode()
        )  # fmt: skip
        yield request_id, system.topic(turn, "person"), payload


class Load:
    """Publishes commands of one kind, and records the time until the final reply of each."""

    def __init__(self, system: System, commands: Iterator[Command]) -> None:
        self.times_ms: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self._client = system.client
        self._commands = commands
        self._published: dict[str, float] = {}
        self._left = 0
        self._replace_until = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def failed(self) -> int:
        """The number of commands that did not end `ok`."""
        return self.outcomes.total() - self.outcomes["ok"]

    async def closed_loop(self, commands: int, in_flight: int, seconds: float) -> None:
        """Publish some commands at once, and another one for each final reply until the time is over."""
        self._replace_until = perf_counter() + seconds
        self._left = commands
        for _ in range(min(in_flight, commands)):
            self._publish()
        await self._wait(seconds)

    async def at_rate(self, per_second: float, seconds: float, random: Random) -> None:
        """Publish commands at random times, independently of the replies."""
        loop = asyncio.get_running_loop()
        self._left = max(1, round(per_second * seconds))
        next_at = loop.time()

        def one() -> None:
            nonlocal next_at
            self._publish()
            if self._left:
                next_at += random.expovariate(per_second)
                loop.call_at(next_at, one)

        one()
        await self._wait(seconds)

    def received(self, payload: bytes) -> None:
        """Handle a reply to any command."""
        reply = orjson.loads(payload)
        outcome = reply["outcome"]
        if outcome == "accepted":
            return
        began = self._published.pop(reply["request_id"], None)
        if began is None:
            return
        now = perf_counter()
        self.times_ms.append((now - began) * 1000)
        self.outcomes[outcome] += 1
        if self._replace_until and now >= self._replace_until:
            self._left = 0
        if self._replace_until and self._left:
            self._publish()
        elif not self._published and not self._left and not self._done.done():
            self._done.set_result(None)

    def _publish(self) -> None:
        self._left -= 1
        request_id, topic, payload = next(self._commands)
        self._published[request_id] = perf_counter()
        self._client.publish(topic, payload)

    async def _wait(self, seconds: float) -> None:
        async with asyncio.timeout(seconds + TIMEOUT_SECONDS):
            await self._done


def loads(system: System, *commands: Callable[[System], Iterator[Command]]) -> list[Load]:
    """Return loads that run beside each other."""
    several = [Load(system, kind(system)) for kind in commands]

    def received(payload: bytes) -> None:
        for one in several:
            one.received(payload)

    system.client.on_message = received
    return several


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
