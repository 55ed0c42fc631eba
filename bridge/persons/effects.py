"""A terminal's answer to a change, and the effects of a transaction: what the rest of the bridge learns of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.model.person_entry import FinalReply, PersonEntry
from bridge.model.terminal import PersonCounts

NO_PERSONS = PersonCounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAnswer:
    """A terminal's answer to a change.

    Attributes:
        sn: the terminal.
        person_id: the person; None for everyone.
        revision: the change's.
        status: the terminal's, 0 for success; None if the change could not even be sent.
        message: its text.
        msgid: of the frame that it answers.
    """

    sn: str
    person_id: str | None
    revision: int
    status: int | None
    message: str
    msgid: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the terminal carried out the change."""
        return self.status == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The effects of a transaction.

    Attributes:
        counts: what it adds to the counts of each terminal that it touched, or their new totals.
        are_totals: whether `counts` are totals.
        group_sizes: what it adds to the number of persons of each group, or the new totals of all groups.
        changed: the terminals that must be sent something else than before.
        entries: by terminal and person the entries that it changed, None for a deleted one. A terminal with other
            changes, or with too many, is missing.
        final_replies: those that it added to the outbox.
        last_final_reply_id: the newest id in the outbox; 0 if it added none.
        photos_dropped: whether a photo was deleted.
        repaired_photos: photos that are intact again and for which refused changes may have to be sent again.
        has_jobs: whether it left something to `bridge.persons.batches`.
    """

    counts: Mapping[str, PersonCounts]
    are_totals: bool = False
    group_sizes: Mapping[str, int] = field(default_factory=dict)
    changed: Collection[str]
    entries: Mapping[str, Mapping[str | None, PersonEntry | None]] = field(default_factory=dict)
    final_replies: Sequence[FinalReply] = ()
    last_final_reply_id: int = 0
    photos_dropped: bool = False
    repaired_photos: Collection[str] = ()
    has_jobs: bool = False


def added(counts: PersonCounts, gained: PersonCounts = NO_PERSONS, lost: PersonCounts = NO_PERSONS) -> PersonCounts:
    """Return `counts` plus one entry's share minus another's."""
    return PersonCounts(
        desired=counts.desired + gained.desired - lost.desired,
        confirmed=counts.confirmed + gained.confirmed - lost.confirmed,
        pending=counts.pending + gained.pending - lost.pending,
        refused=counts.refused + gained.refused - lost.refused,
    )
