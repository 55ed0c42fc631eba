"""A stream of person changes, and the plain dictionaries that say where it must end."""

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
"""Small and conforming, so that they reach the terminal byte for byte and do not slow the stream."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A person as a terminal must hold it in the end."""

    name: str
    photo: int
    card: str | None = None
    visitor: bool = False
    enabled: bool = True

    @property
    def held(self) -> tuple[str, str, bool, str]:
        """The same as `held` returns of a terminal's person."""
        return self.name, self.card or _NO_CARD, self.visitor, sha256(PHOTOS[self.photo]).hexdigest()


def held(person: HeldPerson) -> tuple[str, str, bool, str]:
    """Return what of a terminal's person the stream changes."""
    return person.name, person.card, person.visitor, person.photo_sha256


@dataclass(frozen=True, slots=True)
class Change:
    """One message.

    Attributes:
        request_id: unlike any other's.
        topic: where to.
        payload: ready for JSON.
        concerns: the terminals and persons (None: everyone) that owe it a last word.
    """

    request_id: str
    topic: str
    payload: Mapping[str, Any] = field(repr=False)
    concerns: frozenset[tuple[str, str | None]]


class PersonStream:
    """Makes one change after the other and keeps what must be held once all of them were carried out.

    A broker or a bridge that is ended before its acknowledgement is through sees some changes twice. Replaying the end
    of a stream leads where the stream led, as long as a change of a whole person gives every field and a partial one is
    made of a person that is there; so these changes are made like that.
    """

    def __init__(self, random: Random, sns: Sequence[str], persons: int, *, base: str = "facebridge") -> None:
        self.wanted: dict[str, dict[str, Wanted]] = {sn: {} for sn in sns}
        self.made = 0
        self._random = random
        self._ids = [str(1000 + number) for number in range(persons)]
        self._base = base
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
        """Make a change, as if it were carried out."""
        kinds, weights = zip(*self._kinds, strict=True)
        while True:
            (make,) = self._random.choices(kinds, weights)
            change: Change | None = make()
            if change is not None:
                return change

    def _terminal(self) -> str:
        return self._random.choice(list(self.wanted))

    def _known(self, sn: str) -> str | None:
        return self._random.choice(list(self.wanted[sn])) if self.wanted[sn] else None

    def _whole(self) -> Wanted:
        return Wanted(
            name=f"Name {self.made}",
            photo=self._random.randrange(len(PHOTOS)),
            card=None if self._random.random() < 0.2 else f"{self._random.randrange(10**8):08}",
            visitor=self._random.random() < 0.3,
        )

    def _set(self) -> Change:
        sn, person_id, wanted = self._terminal(), self._random.choice(self._ids), self._whole()
        self.wanted[sn][person_id] = wanted
        return self._change(sn, "set", {"persons": [_person(person_id, wanted)]}, [person_id])

    def _set_list(self) -> Change:
        sn = self._terminal()
        ids = self._random.sample(self._ids, self._random.randrange(2, 6))
        persons = {person_id: self._whole() for person_id in ids}
        self.wanted[sn].update(persons)
        return self._change(sn, "set", {"persons": [_person(*one) for one in persons.items()]}, ids)

    def _set_group(self) -> Change:
        person_id, wanted = self._random.choice(self._ids), self._whole()
        for persons in self.wanted.values():
            persons[person_id] = wanted
        return self._change(None, "set", {"persons": [_person(person_id, wanted)]}, [person_id])

    def _rename(self) -> Change | None:
        return self._partly(name=f"Renamed {self.made}")

    def _photograph(self) -> Change | None:
        return self._partly(photo=self._random.randrange(len(PHOTOS)))

    def _enable(self) -> Change | None:
        return self._partly(enabled=self._random.random() < 0.5)

    def _partly(self, **fields: Any) -> Change | None:
        sn = self._terminal()
        person_id = self._known(sn)
        if person_id is None:
            return None
        self.wanted[sn][person_id] = replace(self.wanted[sn][person_id], **fields)
        if "photo" in fields:
            fields["photo"] = b64encode(PHOTOS[fields["photo"]]).decode()
        return self._change(sn, "set", {"persons": [{"id": person_id, **fields}]}, [person_id])

    def _remove(self) -> Change:
        sn = self._terminal()
        ids = self._random.sample(self._ids, self._random.choice((1, 1, 1, 2, 3)))
        for person_id in ids:
            self.wanted[sn].pop(person_id, None)
        return self._change(sn, "remove", {"ids": ids}, ids)

    def _remove_group(self) -> Change:
        person_id = self._random.choice(self._ids)
        for persons in self.wanted.values():
            persons.pop(person_id, None)
        return self._change(None, "remove", {"id": person_id}, [person_id])

    def _remove_everyone(self) -> Change:
        sn = self._terminal()
        self.wanted[sn].clear()
        return self._change(sn, "remove", {"all": True, "confirm": sn}, [None])

    def _sync(self) -> Change:
        sn = self._terminal()
        payload = {"clear": True, "confirm": sn} if self._random.random() < 0.5 else {}
        return self._change(sn, "sync", payload, [None])

    def _change(self, sn: str | None, verb: str, payload: dict[str, Any], ids: Sequence[str | None]) -> Change:
        """Make a change of a terminal, or of the group where `sn` is None."""
        self.made += 1
        request_id = f"r{self.made}"
        where = f"group/{GROUP}" if sn is None else f"terminal/{sn}"
        return Change(
            request_id=request_id,
            topic=f"{self._base}/{where}/person/{verb}",
            payload={**payload, "request_id": request_id},
            concerns=frozenset((one, each) for one in ([sn] if sn else self.wanted) for each in ids),
        )


def _person(person_id: str, wanted: Wanted) -> dict[str, Any]:
    return {
        "id": person_id,
        "name": wanted.name,
        "card": wanted.card,
        "visitor": wanted.visitor,
        "enabled": wanted.enabled,
        "photo": b64encode(PHOTOS[wanted.photo]).decode(),
    }
