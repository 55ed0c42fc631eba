"""A stream of random person changes, and the persons that each terminal must hold at its end."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random
from typing import Any

from bridge.simulator.device import HeldPerson
from bridge.simulator.faces import sample_photo

GROUP = "lobby"
_NO_CARD = "00000000"

PHOTOS = tuple(sample_photo(seed, (48, 64)) for seed in range(12))
"""Small photos within the terminals' limits: the bridge forwards them unchanged, and they do not slow the stream."""


@dataclass(frozen=True, slots=True)
class ExpectedPerson:
    """A person as a terminal must hold it at the end."""

    name: str
    photo: int
    card: str | None = None
    visitor: bool = False
    enabled: bool = True

    @property
    def held(self) -> tuple[str, str, bool, str]:
        """The value that `held` returns for this person."""
        return self.name, self.card or _NO_CARD, self.visitor, sha256(PHOTOS[self.photo]).hexdigest()


def held(person: HeldPerson) -> tuple[str, str, bool, str]:
    """Return those values of a terminal's person that the stream changes."""
    return person.name, person.card, person.visitor, person.photo_sha256


@dataclass(frozen=True, slots=True)
class Change:
    """One message.

    Attributes:
        request_id: unique in the stream.
        topic: the message's topic.
        payload: the message's payload, to be written as JSON.
        concerns: a final reply is due for each of these pairs of terminal and person; the person None means everyone.
    """

    request_id: str
    topic: str
    payload: Mapping[str, Any] = field(repr=False)
    concerns: frozenset[tuple[str, str | None]]


class PersonStream:
    """Generates changes and keeps the persons that each terminal must hold after all of them.

    If a broker or a bridge stops before an acknowledgement has arrived, the bridge receives some changes twice.
    Repeating the last changes of a stream must not alter its result. So a change of a complete person gives every
    field, and a partial change is generated only for a person that exists.

    Attributes:
        expected: by serial number and person id, what the terminals must hold.
        made: number of changes so far.
    """

    def __init__(
        self,
        random: Random,
        sns: Sequence[str],
        persons: int,
        *,
        base: str = "facebridge",
        group: str = GROUP,
        prefix: str = "r",
    ) -> None:
        self.expected: dict[str, dict[str, ExpectedPerson]] = {sn: {} for sn in sns}
        self.made = 0
        self._random = random
        self._ids = [str(1000 + number) for number in range(persons)]
        self._base = base
        self._group = group
        self._prefix = prefix
        self._kinds: tuple[tuple[Callable[[], Change | None], int], ...] = (
            (self._set, 40),
            (self._rename, 15),
            (self._photograph, 8),
            (self._enable, 10),
            (self._remove, 12),
            (self._set_list, 5),
            (self._set_group, 4),
            (self._remove_group, 2),
            (self._sync, 1),
            (self._remove_everyone, 1),
        )

    def next(self) -> Change:
        """Generate a change and apply it to `expected`."""
        kinds, weights = zip(*self._kinds, strict=True)
        while True:
            (make,) = self._random.choices(kinds, weights)
            change: Change | None = make()
            if change is not None:
                return change

    def _random_terminal(self) -> str:
        return self._random.choice(list(self.expected))

    def _existing_person(self, sn: str) -> str | None:
        return self._random.choice(list(self.expected[sn])) if self.expected[sn] else None

    def _complete_person(self) -> ExpectedPerson:
        return ExpectedPerson(
            name=f"Name {self.made}",
            photo=self._random.randrange(len(PHOTOS)),
            card=None if self._random.random() < 0.2 else f"{self._random.randrange(10**8):08}",
            visitor=self._random.random() < 0.3,
        )

    def _set(self) -> Change:
        sn, person_id, person = self._random_terminal(), self._random.choice(self._ids), self._complete_person()
        self.expected[sn][person_id] = person
        return self._change(sn, "set", {"persons": [_person(person_id, person)]}, [person_id])

    def _set_list(self) -> Change:
        sn = self._random_terminal()
        ids = self._random.sample(self._ids, self._random.randrange(2, 6))
        persons = {person_id: self._complete_person() for person_id in ids}
        self.expected[sn].update(persons)
        return self._change(sn, "set", {"persons": [_person(*one) for one in persons.items()]}, ids)

    def _set_group(self) -> Change:
        person_id, person = self._random.choice(self._ids), self._complete_person()
        for persons in self.expected.values():
            persons[person_id] = person
        return self._change(None, "set", {"persons": [_person(person_id, person)]}, [person_id])

    def _rename(self) -> Change | None:
        return self._change_fields(name=f"Renamed {self.made}")

    def _photograph(self) -> Change | None:
        return self._change_fields(photo=self._random.randrange(len(PHOTOS)))

    def _enable(self) -> Change | None:
        return self._change_fields(enabled=self._random.random() < 0.5)

    def _change_fields(self, **fields: Any) -> Change | None:
        sn = self._random_terminal()
        person_id = self._existing_person(sn)
        if person_id is None:
            return None
        self.expected[sn][person_id] = replace(self.expected[sn][person_id], **fields)
        if "photo" in fields:
            fields["photo"] = b64encode(PHOTOS[fields["photo"]]).decode()
        return self._change(sn, "set", {"persons": [{"id": person_id, **fields}]}, [person_id])

    def _remove(self) -> Change:
        sn = self._random_terminal()
        ids = self._random.sample(self._ids, self._random.choice((1, 1, 1, 2, 3)))
        for person_id in ids:
            self.expected[sn].pop(person_id, None)
        return self._change(sn, "remove", {"ids": ids}, ids)

    def _remove_group(self) -> Change:
        person_id = self._random.choice(self._ids)
        for persons in self.expected.values():
            persons.pop(person_id, None)
        return self._change(None, "remove", {"id": person_id}, [person_id])

    def _remove_everyone(self) -> Change:
        sn = self._random_terminal()
        self.expected[sn].clear()
        return self._change(sn, "remove", {"all": True, "confirm": sn}, [None])

    def _sync(self) -> Change:
        sn = self._random_terminal()
        payload = {"clear": True, "confirm": sn} if self._random.random() < 0.5 else {}
        return self._change(sn, "sync", payload, [None])

    def _change(self, sn: str | None, verb: str, payload: dict[str, Any], ids: Sequence[str | None]) -> Change:
        """Build a change of one terminal, or of the group if `sn` is None."""
        self.made += 1
        request_id = f"{self._prefix}{self.made}"
        where = f"group/{self._group}" if sn is None else f"terminal/{sn}"
        return Change(
            request_id=request_id,
            topic=f"{self._base}/{where}/person/{verb}",
            payload={**payload, "request_id": request_id},
            concerns=frozenset((one, each) for one in ([sn] if sn else self.expected) for each in ids),
        )


def _person(person_id: str, person: ExpectedPerson) -> dict[str, Any]:
    return {
        "id": person_id,
        "name": person.name,
        "card": person.card,
        "visitor": person.visitor,
        "enabled": person.enabled,
        "photo": b64encode(PHOTOS[person.photo]).decode(),
    }
