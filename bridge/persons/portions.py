"""Division of person commands into portions, each of which is stored in a transaction of its own.

A message may set 10,000 persons, or persons on 500 terminals. One transaction for all of it would hold up every other
change, and presses wait for the store's threads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bridge.core.ports import PersonCommand
from bridge.model.commands import RemovePersons, SetPersons
from bridge.persons.preparation import PreparedPerson
from bridge.persons.whole_terminal import ROWS

MAX_PERSONS = 100
"""Persons that one transaction accepts: some 30 ms."""

_MAX_PHOTO_BYTES = 4 * 1024 * 1024
"""Photos that one transaction stores, unless a single one is larger."""

_ROWS_OF_A_REMOVAL = 2
"""Rows that take as long as the removal of a person: SQLite overwrites the photo, 100 KB."""

_MAX_REPLIES = 5000
"""Replies to one part of a command for a group: members times persons. The event loop publishes them at once."""

_LEAST_PERSONS = 10
"""Persons in a part for a group with very many members: a message must not have more parts than the store remembers
messages (`KEPT_DELIVERIES`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a command that is applied as a whole.

    Attributes:
        index: of the command in its call.
        command: the command with these persons only; its message is recognised separately from other parts.
        persons: the persons that it sets.
    """

    index: int
    command: PersonCommand
    persons: Sequence[PreparedPerson]

    @property
    def rows(self) -> int:
        """How long the part takes, in entries of a terminal."""
        terminals = max(len(self.command.sns), 1)
        change = self.command.change
        if isinstance(change, SetPersons):
            return len(self.persons) * terminals
        if isinstance(change, RemovePersons) and change.ids is not None:
            return _ROWS_OF_A_REMOVAL * len(change.ids) * terminals
        return ROWS * terminals

    @property
    def photo_bytes(self) -> int:
        """The size of the photos that it sets."""
        return sum(len(person.photo.jpeg) for person in self.persons if person.photo is not None)


def portions(
    commands: Sequence[PersonCommand], prepared: Sequence[Sequence[PreparedPerson]]
) -> Iterator[Sequence[Part]]:
    """Yield the parts of commands in their order, those together that one transaction applies."""
    portion: list[Part] = []
    rows = photo_bytes = 0
    for part in _parts(commands, prepared):
        is_full = rows + part.rows > MAX_PERSONS or photo_bytes + part.photo_bytes > _MAX_PHOTO_BYTES
        if portion and is_full:
            yield portion
            portion, rows, photo_bytes = [], 0, 0
        portion.append(part)
        rows += part.rows
        photo_bytes += part.photo_bytes
    if portion:
        yield portion


def _parts(commands: Sequence[PersonCommand], prepared: Sequence[Sequence[PreparedPerson]]) -> Iterator[Part]:
    for index, (command, persons) in enumerate(zip(commands, prepared, strict=True)):
        change = command.change
        size = min(MAX_PERSONS, max(_MAX_REPLIES // max(len(command.sns), 1), _LEAST_PERSONS))
        if isinstance(change, SetPersons):
            for number, some in enumerate(slices := list(_slices(persons, size))):
                yield Part(index=index, command=_part_of(command, number, len(slices)), persons=some)
        elif isinstance(change, RemovePersons) and change.ids is not None:
            ids = tuple(dict.fromkeys(change.ids))
            size = max(size // _ROWS_OF_A_REMOVAL, 1)
            parts = [ids[start : start + size] for start in range(0, len(ids), size)]
            for number, some_ids in enumerate(parts):
                part = replace(_part_of(command, number, len(parts)), change=replace(change, ids=some_ids))
                yield Part(index=index, command=part, persons=())
        else:
            yield Part(index=index, command=command, persons=())


def _slices(persons: Sequence[PreparedPerson], size: int) -> Iterator[Sequence[PreparedPerson]]:
    """Yield the persons in their order, few and with few photos at a time."""
    some: list[PreparedPerson] = []
    photo_bytes = 0
    for person in persons:
        added = 0 if person.photo is None else len(person.photo.jpeg)
        if some and (len(some) == size or photo_bytes + added > _MAX_PHOTO_BYTES):
            yield some
            some, photo_bytes = [], 0
        some.append(person)
        photo_bytes += added
    if some:
        yield some


def _part_of(command: PersonCommand, number: int, parts: int) -> PersonCommand:
    if parts == 1 or command.message is None:
        return command
    return replace(command, message=command.message.part(number))
