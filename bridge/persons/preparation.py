"""Reads the persons of changes and prepares their photos, before anything is stored."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

from bridge.core.ports import PersonRequest
from bridge.model.commands import PersonChange, SetPersons
from bridge.model.faults import Fault, InvalidError
from bridge.model.names import is_person_id
from bridge.persons.photos.preparation import PhotoPreparer, PreparedPhoto
from bridge.persons.schema import PersonPatch, parse_person

_CONCURRENT_PERSONS = 4
"""Persons that are prepared at the same time: enough for the photo threads, few enough pictures in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPerson:
    """One person of a change, as far as it can be evaluated without the store.

    Attributes:
        position: in its list; None if it came alone.
        person_id: the id; None if it cannot be read.
        patch: the given fields; None if they are invalid.
        photo: the photo, if one is given.
        faults: why the person is invalid.
    """

    position: int | None
    person_id: str | None
    patch: PersonPatch | None = field(default=None, repr=False)
    photo: PreparedPhoto | None = field(default=None, repr=False)
    faults: tuple[Fault, ...] = ()

    @property
    def photo_sha256(self) -> str | None:
        """The name of the given photo."""
        return None if self.photo is None else self.photo.sha256

    def located(self, faults: Sequence[Fault]) -> tuple[Fault, ...]:
        """Return faults of this person with their path in the whole command."""
        if self.position is None:
            return tuple(faults)
        return tuple(fault.below(f"persons.{self.position}") for fault in faults)


class Preparation:
    """Prepares the persons of several requests together."""

    def __init__(self, photos: PhotoPreparer, timezone: tzinfo) -> None:
        """Store the dependencies.

        Args:
            photos: prepares photos.
            timezone: of times without an offset.
        """
        self._photos = photos
        self._timezone = timezone

    async def prepare(self, requests: Sequence[PersonRequest]) -> list[Sequence[PreparedPerson]]:
        """Prepare the persons of each request.

        Returns:
            For each request its persons in their order; nothing for a request that sets none. The requests of a
            group's members follow one another with the same change: they share its persons.

        Raises:
            UnavailableError: the bridge cannot convert pictures now.
        """
        prepared: list[list[PreparedPerson | None]] = []
        work: list[tuple[list[PreparedPerson | None], int, object]] = []
        last: SetPersons | None = None
        for request in requests:
            change = request.change
            if isinstance(change, SetPersons) and change is last:
                prepared.append(prepared[-1])
                continue
            last = change if isinstance(change, SetPersons) else None
            prepared.append([] if last is None else [None] * len(last.persons))
            if last is not None:
                work += [(prepared[-1], position, value) for position, value in enumerate(last.persons)]
        waiting = iter(work)

        async def prepare_waiting() -> None:
            for persons, position, value in waiting:
                persons[position] = await self._person(value, None if len(persons) == 1 else position)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_CONCURRENT_PERSONS):
                    group.create_task(prepare_waiting())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [[person for person in persons if person is not None] for persons in prepared]

    async def _person(self, value: object, position: int | None) -> PreparedPerson:
        # Lets other tasks run between two persons, however long the list is.
        await asyncio.sleep(0)
        person = PreparedPerson(position=position, person_id=_readable_id(value))
        try:
            patch = parse_person(value, timezone=self._timezone)
            photo = None if patch.photo_source is None else await self._photos.prepare(patch.photo_source)
        except InvalidError as error:
            return replace(person, faults=person.located(error.faults))
        return replace(person, person_id=patch.id, patch=patch, photo=photo)


def unprepared(change: PersonChange) -> list[PreparedPerson]:
    """Return the persons that a change sets, with nothing but their ids."""
    if not isinstance(change, SetPersons):
        return []
    return [
        PreparedPerson(position=position, person_id=_readable_id(value))
        for position, value in enumerate(change.persons)
    ]


def _readable_id(value: object) -> str | None:
    person_id = value.get("id") if isinstance(value, Mapping) else None
    return person_id if isinstance(person_id, str) and is_person_id(person_id) else None
