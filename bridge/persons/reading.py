"""Reading the stored persons, for adapters that show them."""

from dataclasses import dataclass, field

from bridge.model.person_entry import GroupPerson, PersonEntry
from bridge.model.person_summary import EVERY_PERSON, PersonEverywhere, PersonFilter, PersonSummary
from bridge.store import group_queries, person_queries, person_reading
from bridge.store.database import Database
from bridge.store.photos import PhotoCipher, read_photo


@dataclass(frozen=True, slots=True)
class PersonReader:
    """Reads persons on the store's reader threads. Every method raises UnavailableError if that is not possible.

    Attributes:
        database: the store.
        cipher: decrypts photos.
    """

    database: Database = field(repr=False)
    cipher: PhotoCipher = field(repr=False)

    async def on_terminal(
        self, sn: str, limit: int, *, after: str | None = None, wanted: PersonFilter = EVERY_PERSON
    ) -> tuple[list[PersonEntry], int]:
        """Return persons of a terminal by id, the removal of everyone first; and the number of all wanted ones.

        Args:
            sn: the terminal.
            limit: the maximum number of persons.
            after: the id after which the page begins, empty for the removal of everyone; None for the first page.
            wanted: the persons to return.
        """
        return await self.database.read(person_reading.terminal_page, sn, wanted, after, limit)

    async def one_on_terminal(self, sn: str, person_id: str) -> PersonEntry | None:
        """Return a person of a terminal, also one that the terminal has yet to remove; None for an unknown one."""
        return await self.database.read(person_queries.entry, sn, person_id)

    async def persons(
        self, limit: int, *, after: str | None = None, wanted: PersonFilter = EVERY_PERSON
    ) -> tuple[list[PersonSummary], int]:
        """Return persons over all terminals by id, and the number of all wanted ones.

        Args:
            limit: the maximum number of persons.
            after: the id after which the page begins; None for the first page.
            wanted: the persons to return.
        """
        return await self.database.read(person_reading.person_page, wanted, after, limit)

    async def everywhere(self, person_id: str, limit: int, *, after: str = "") -> PersonEverywhere | None:
        """Return a person with a page of the terminals by SN; None for an unknown person.

        Args:
            person_id: the person.
            limit: the maximum number of terminals.
            after: the SN after which the page begins.
        """
        return await self.database.read(person_reading.person_everywhere, person_id, after, limit)

    async def group_sizes(self) -> dict[str, int]:
        """Return the number of persons of each group that keeps any."""
        return await self.database.read(group_queries.group_sizes)

    async def in_group(
        self, group: str, limit: int, *, after: str = "", q: str | None = None
    ) -> tuple[list[GroupPerson], int]:
        """Return persons that a group keeps by id, and the number of all that match.

        Args:
            group: the group.
            limit: the maximum number of persons.
            after: the id after which the page begins.
            q: only those whose id or name contains this text, in upper or lower case.
        """
        return await self.database.read(person_reading.group_page, group, q, after, limit)

    async def one_in_group(self, group: str, person_id: str) -> GroupPerson | None:
        """Return a person that a group keeps; None if it does not."""
        return (await self.database.read(group_queries.kept_persons, group, [person_id])).get(person_id)

    async def photo(self, sha256: str) -> bytes | None:
        """Return a photo's JPEG by `Person.photo`; None if it is missing or damaged."""
        return await self.database.read(read_photo, self.cipher, sha256)
