"""What the transfers ask of the parts around them."""

from collections.abc import Collection, Sequence
from typing import Protocol

from bridge.model.person_entry import PersonEntry
from bridge.persons.ports import PersonStore


class TransferStore(PersonStore, Protocol):
    """The roster's store, and what only looks over several terminals at once."""

    async def everywhere(self, person_id: str) -> Sequence[PersonEntry]:
        """Return a person's entries on all terminals, by SN. Raises UnavailableError."""
        ...

    async def unconfirmed(
        self, after: tuple[str, str], limit: int, *, sns: Collection[str] | None = None
    ) -> Sequence[PersonEntry]:
        """Return what terminals have yet to confirm or have refused, the removals of everyone included.

        Args:
            after: SN and person id (empty for everyone) that the result begins behind.
            limit: how many.
            sns: only of these terminals.

        Returns:
            By SN and person id.

        Raises:
            UnavailableError: the store cannot be read.
        """
        ...


class Progress(Protocol):
    """Told how far something is."""

    def __call__(self, what: str, done: int, part: float) -> None:
        """Take what is being done, how many persons are done, and what part of all that is, 0 to 1."""
        ...
