"""Reads the persons of a change and puts their pictures right, before anything is stored."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

from bridge.model.commands import SetPersons
from bridge.model.faults import Fault, InvalidError
from bridge.model.names import is_person_id
from bridge.persons.photos.preparation import PhotoPreparer, PreparedPhoto
from bridge.persons.schema import PersonPatch, parse_person

_AT_ONCE = 4
"""Persons that are prepared together: enough to keep the photos' threads busy, few enough pictures in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPerson:
    """One person of a change, as far as that can be told without what is stored.

    Attributes:
        position: in the list it came in; None where it came alone.
        person_id: who; None where that cannot be read.
        patch: what is given; None where it is invalid.
        photo: the picture, where one is given.
        faults: what is invalid.
    """

    position: int | None
    person_id: str | None
    patch: PersonPatch | None = field(default=None, repr=False)
    photo: PreparedPhoto | None = field(default=None, repr=False)
    faults: tuple[Fault, ...] = ()

    @property
    def photo_sha256(self) -> str | None:
        """Which picture was given, if any."""
        return None if self.photo is None else self.photo.sha256

    def placed(self, faults: Sequence[Fault]) -> tuple[Fault, ...]:
        """Return faults of this person as seen from the whole command."""
        if self.position is None:
            return tuple(faults)
        return tuple(fault.below(f"persons.{self.position}") for fault in faults)


class Preparation:
    """Prepares the persons of several changes together."""

    def __init__(self, photos: PhotoPreparer, timezone: tzinfo) -> None:
        """Take what puts pictures right, and the zone of times without an offset."""
        self._photos = photos
        self._timezone = timezone

    async def prepare(self, changes: Sequence[SetPersons]) -> Mapping[int, Sequence[PreparedPerson]]:
        """Prepare each change once, however many terminals it is for.

        Returns:
            By `id` of the change its persons, in their order.
        """
        distinct = {id(change): change for change in changes}
        prepared: dict[int, list[PreparedPerson | None]] = {
            key: [None] * len(change.persons) for key, change in distinct.items()
        }
        work = _places(distinct)

        async def take() -> None:
            for key, position, value in work:
                alone = len(distinct[key].persons) == 1
                prepared[key][position] = await self._person(value, None if alone else position)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(take())
        return {key: [person for person in persons if person is not None] for key, persons in prepared.items()}

    async def _person(self, value: object, position: int | None) -> PreparedPerson:
        # However long the list, others get their turn between two persons.
        await asyncio.sleep(0)
        person = PreparedPerson(position=position, person_id=_readable_id(value))
        try:
            patch = parse_person(value, timezone=self._timezone)
            photo = None if patch.photo_source is None else await self._photos.prepare(patch.photo_source)
        except InvalidError as error:
            return replace(person, faults=person.placed(error.faults))
        return replace(person, person_id=patch.id, patch=patch, photo=photo)


def _places(changes: Mapping[int, SetPersons]) -> Iterator[tuple[int, int, object]]:
    for key, change in changes.items():
        for position, value in enumerate(change.persons):
            yield key, position, value


def _readable_id(value: object) -> str | None:
    person_id = value.get("id") if isinstance(value, Mapping) else None
    return person_id if isinstance(person_id, str) and is_person_id(person_id) else None
