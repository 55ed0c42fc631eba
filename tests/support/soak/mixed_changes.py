"""Changes of one terminal that come over MQTT and from the command line in turn, each after the one before."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import orjson
from PIL import Image

from tests.support.facebridge import facebridge_process
from tests.support.person_stream import PHOTOS
from tests.support.soak.clock import now, time_of_day
from tests.support.soak.live_publisher import LivePublisher
from tests.support.soak.replies import ChangeReplies

_NO_CARD = "00000000"

_REWRITE_SECONDS = 60.0
"""After its publisher has lost its connection, or the broker was killed, persons that were changed over MQTT in this
time are changed again: older changes can be lost or can arrive again."""

_ACCEPTED_SECONDS = 40.0
"""A change is accepted within this time; a fault takes 12 s at most, and two can follow each other."""

_IMPORT_ATTEMPTS = 30
"""A bridge that is frozen within a transaction keeps the store locked for up to 12 s."""


def large_photo(seed: int, side: int) -> bytes:
    """Return a square JPEG that compresses badly; one of 800 pixels has 0.4 MB."""
    image = Image.frombytes("RGB", (side, side), Random(seed).randbytes(side * side * 3))
    output = BytesIO()
    image.save(output, "JPEG", quality=75)
    return output.getvalue()


_LARGE_PHOTOS = tuple(large_photo(seed, side) for seed, side in enumerate((300, 500, 800)))


@dataclass(frozen=True, slots=True)
class _Person:
    name: str
    photo: bytes
    card: str | None
    visitor: bool
    enabled: bool = True

    @property
    def held(self) -> tuple[str, str, bool, str]:
        return self.name, self.card or _NO_CARD, self.visitor, sha256(self.photo).hexdigest()

    def as_json(self, person_id: str) -> dict[str, Any]:
        return {
            "id": person_id,
            "name": self.name,
            "card": self.card,
            "visitor": self.visitor,
            "enabled": self.enabled,
            "photo": b64encode(self.photo).decode(),
        }


class MixedChanges:
    """Changes a terminal's persons, and waits for `accepted` after each change.

    So a newer change of the command line meets the older one that the broker may deliver again.

    Attributes:
        expected: by person id, what the terminal must hold.
        from_command_line: number of changes from the command line.

    Args:
        sn: the terminal.
        random: the source of all choices.
        broker_port: the broker's port.
        folder: the bridge's, with its configuration.
        replies: tell what the bridge has accepted.
        photo_accepted: is called with the serial number when a large photo is about to be sent to the terminal.
    """

    def __init__(
        self,
        sn: str,
        random: Random,
        broker_port: int,
        folder: Path,
        replies: ChangeReplies,
        photo_accepted: Callable[[str], None],
    ) -> None:
        self.expected: dict[str, _Person] = {}
        self.from_command_line = 0
        self._sn = sn
        self._random = random
        self._folder = folder
        self._replies = replies
        self._photo_accepted = photo_accepted
        self._number = 0
        self._requests = 0
        self._losses = 0
        self._losses_repaired = 0
        self._last_published: str | None = None
        self._published_at: dict[str, float] = {}
        self._publisher = LivePublisher(f"mixed-{sn}", broker_port, self.lose)

    def lose(self) -> None:
        """Expect that messages were lost, or arrive again as new ones."""
        self._losses += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator["MixedChanges"]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._publisher.run(), name=f"mixed changes of {self._sn}")
            try:
                yield self
            finally:
                task.cancel()

    async def change_until(self, ended: asyncio.Event) -> None:
        """Make changes until the event is set; return when all of them are accepted."""
        while not ended.is_set():
            await self._change()
            await self._repair()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.expovariate(1)):
                    await ended.wait()
        await self._repair()

    async def _change(self) -> None:
        random = self._random
        self._number += 1
        person_id = f"{self._sn[1:]}{random.randrange(8):03}"
        is_from_command_line, is_dated = random.random() < 0.3, random.random() < 0.5
        if is_from_command_line and random.random() < 0.7:
            # The broker may deliver the older change of this person again.
            person_id = self._last_published or person_id
        known = self.expected.get(person_id)
        kind = random.choice(("set", "set", "rename", "enable", "remove")) if known else "set"
        is_large = random.random() < 0.3
        person = known
        if kind == "set":
            photos = _LARGE_PHOTOS if is_large else PHOTOS
            card = None if random.random() < 0.2 else f"{random.randrange(10**8):08}"
            person = _Person(f"Name {self._number}", random.choice(photos), card, random.random() < 0.3)
            fields = person.as_json(person_id)
        elif kind == "rename" and person is not None:
            person = replace(person, name=f"Renamed {self._number}")
            fields = {"id": person_id, "name": person.name}
        elif kind == "enable" and person is not None:
            person = replace(person, enabled=random.random() < 0.5)
            fields = {"id": person_id, "enabled": person.enabled}
        else:
            person, fields = None, {"id": person_id}
        if person is None:
            self.expected.pop(person_id, None)
        else:
            self.expected[person_id] = person
        if is_from_command_line and self.expected:
            await self._import(fields if person is not None else None)
            return
        self._last_published = person_id
        if await self._publish(person_id, fields, is_removal=person is None, is_dated=is_dated):
            if kind == "set" and is_large:
                self._photo_accepted(self._sn)
        else:
            self.lose()

    async def _import(self, person: dict[str, Any] | None) -> None:
        """Import one person, or remove those that are not expected."""
        file = self._folder / f"{self._sn}.json"
        names = [{"id": person_id, "name": one.name} for person_id, one in self.expected.items()]
        file.write_bytes(orjson.dumps([person] if person is not None else names))
        words = () if person is not None else ("--prune", "--yes")
        self.from_command_line += 1
        faults = ""
        for _ in range(_IMPORT_ATTEMPTS):
            with suppress(TimeoutError):
                result = await facebridge_process(
                    self._folder, "persons", "import", str(file), "--terminal", self._sn, *words, "-c", "config.yaml"
                )
                if result.code == 0:
                    return
                faults = result.stdout + result.stderr
            await asyncio.sleep(1)
        raise AssertionError(f"the import fails: {faults}")

    async def _repair(self) -> None:
        """After a loss, publish the persons again that were changed over MQTT lately."""
        while self._losses_repaired != self._losses:
            losses = self._losses
            since = now() - _REWRITE_SECONDS
            recent = [person_id for person_id, at in self._published_at.items() if at > since]
            for person_id in recent:
                person = self.expected.get(person_id)
                fields = {"id": person_id} if person is None else person.as_json(person_id)
                if not await self._publish(person_id, fields, is_removal=person is None, is_dated=True):
                    break
            else:
                self._losses_repaired = losses

    async def _publish(self, person_id: str, fields: dict[str, Any], *, is_removal: bool, is_dated: bool) -> bool:
        """Publish a change; return whether the bridge has accepted it over one connection to the broker."""
        losses = self._losses
        while not self._publisher.is_connected:
            await asyncio.sleep(0.1)
        self._requests += 1
        request_id = f"{self._sn} {self._requests}"
        self._replies.expect(request_id, frozenset(((self._sn, person_id),)))
        payload = {**(fields if is_removal else {"persons": [fields]}), "request_id": request_id}
        if is_dated:
            payload["asked_at"] = time_of_day()
        verb = "remove" if is_removal else "set"
        self._published_at[person_id] = now()
        self._publisher.publish(f"facebridge/terminal/{self._sn}/person/{verb}", orjson.dumps(payload), 1)
        await self._replies.wait(
            lambda: self._replies.is_accepted(request_id) or self._losses != losses, _ACCEPTED_SECONDS
        )
        is_lost = self._losses != losses
        if is_lost and not self._replies.is_accepted(request_id):
            self._replies.forget(request_id)
        return self._replies.is_accepted(request_id) and not is_lost
