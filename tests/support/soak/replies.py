"""Passes replies to persons' changes on to those who wait for them, and tracks the final ones."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from tests.support.soak.clock import now

FINAL = frozenset(("ok", "refused", "superseded"))
"""The outcomes of final replies (docs/mqtt.md)."""

_PERSON_COMMANDS = frozenset(("setPerson", "removePerson", "syncPersons"))


class ChangeReplies:
    """The changes without a final reply.

    A change is accepted once the bridge has said so for each of its persons. Only then does the promise hold: a broker
    that is killed can lose changes that it has acknowledged and not yet saved or forwarded.

    Attributes:
        missing: by request id, the terminals and persons (None: everyone) without a final reply.
        accepted_at: by request id, when the last `accepted` was seen; only of complete changes.
        outcomes: the number of replies by outcome.
        unexpected: replies that no change may get.
    """

    def __init__(self) -> None:
        self.missing: dict[str, set[tuple[str, str | None]]] = {}
        self.accepted_at: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.changes = 0
        self._acknowledged: set[str] = set()
        self._unaccepted: dict[str, set[tuple[str, str | None]]] = {}
        self._published: set[tuple[str, str, str | None]] = set()
        self._repeated: set[str] = set()
        self._observers: list[Callable[[str], None]] = []
        self._waiting: set[asyncio.Event] = set()

    def expect(self, request_id: str, concerns: frozenset[tuple[str, str | None]]) -> None:
        """Expect an `accepted` and a final reply for each of these terminals and persons."""
        self.missing[request_id] = set(concerns)
        self._unaccepted[request_id] = set(concerns)
        self.changes += len(concerns)

    def forget(self, request_id: str) -> None:
        """Expect no more replies to a change whose sender has given it up."""
        self.missing.pop(request_id, None)

    def repeated(self, request_id: str) -> None:
        """Allow `invalid` replies: a partial change that is sent again can meet a person that was removed since."""
        self._repeated.add(request_id)

    def is_accepted(self, request_id: str) -> bool:
        """Return whether the bridge has accepted all of a change."""
        return request_id not in self._unaccepted

    def stored(self, request_id: str, sn: str, person_id: str | None) -> None:
        """Note that the bridge has stored a change, as its log says; its reply may still be held back."""
        self._accept(request_id, (sn, person_id))

    def acknowledged(self, request_id: str) -> None:
        """Note that the bridge has acknowledged a change to the broker: from now on it must not get lost."""
        self._acknowledged.add(request_id)

    def is_acknowledged(self, request_id: str) -> bool:
        """Return whether the bridge has acknowledged a change to the broker."""
        return request_id in self._acknowledged

    def received(self, topic: str, payload: bytes) -> None:
        """Note a reply that a subscriber has received."""
        reply = self._person_reply(topic, payload)
        if reply is not None:
            self.outcomes[reply["outcome"]] += 1
            self._note(reply, is_received=True)

    def published(self, topic: str, payload: bytes) -> None:
        """Note a reply on its way from the bridge to the broker, which can lose it if it is killed."""
        reply = self._person_reply(topic, payload)
        if reply is not None:
            self._note(reply, is_received=False)

    async def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition is true; return whether it is. It is checked after each reply."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not condition():
                        event.clear()
                        await event.wait()
        finally:
            self._waiting.discard(event)
        return condition()

    def never_received(self) -> list[str]:
        """Return the changes whose final reply the bridge has not even published."""
        return [
            f"{request_id} for {person_id} on {sn}"
            for request_id, pairs in self.missing.items()
            for sn, person_id in pairs
            if (request_id, sn, person_id) not in self._published
        ]

    def only_published(self) -> list[str]:
        """Return the changes whose final reply the bridge has published and no subscriber has received."""
        return [
            f"{request_id} for {person_id} on {sn}"
            for request_id, pairs in self.missing.items()
            for sn, person_id in pairs
            if (request_id, sn, person_id) in self._published
        ]

    def _person_reply(self, topic: str, payload: bytes) -> dict[str, Any] | None:
        if not (topic.startswith("facebridge/terminal/") and topic.endswith("/reply")):
            return None
        reply: dict[str, Any] = orjson.loads(payload)
        return reply if reply["command"] in _PERSON_COMMANDS else None

    def _note(self, reply: dict[str, Any], *, is_received: bool) -> None:
        request_id, pair, outcome = reply["request_id"], (reply["sn"], reply["person_id"]), reply["outcome"]
        is_final = outcome in FINAL
        if outcome == "invalid":
            is_final = request_id in self._repeated
            if not is_final and is_received:
                self.unexpected.append(f"{reply}")
        if outcome == "accepted" or is_final:
            self._accept(request_id, pair)
        if is_final:
            self._published.add((request_id, *pair))
            missing = self.missing.get(request_id)
            if missing is not None and is_received:
                missing.discard(pair)
                if not missing:
                    del self.missing[request_id]
        for event in self._waiting:
            event.set()

    def _accept(self, request_id: str, pair: tuple[str, str | None]) -> None:
        unaccepted = self._unaccepted.get(request_id)
        if unaccepted is not None:
            unaccepted.discard(pair)
            if not unaccepted:
                del self._unaccepted[request_id]
                self.accepted_at[request_id] = now()
                for event in self._waiting:
                    event.set()
