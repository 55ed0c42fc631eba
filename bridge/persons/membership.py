"""Membership: how joining and leaving groups changes the persons of a terminal. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bridge.model.person import Person
from bridge.model.person_entry import GroupPerson, MembershipJob
from bridge.persons.schema import replacing

_NAMED_CHANGES = 20
"""Changes that a log line names."""


@dataclass(frozen=True, slots=True)
class GrantedPerson:
    """A person as a terminal should hold them.

    Attributes:
        person: the person.
        access: the scopes through which the terminal holds the person, as in `PersonEntry`.
    """

    person: Person
    access: tuple[str, ...]


def after_membership_change(
    before: GrantedPerson | None, left: Collection[str], joined: Sequence[GroupPerson]
) -> GrantedPerson | None:
    """Return how a terminal should hold a person after it left groups and joined others.

    Leaving counts first: it takes the groups' scopes away, and the person with the last one. It never changes a value.
    Joining is a set of the person as the group keeps them; with several groups, the newest change is the last one.

    Args:
        before: how the terminal should hold the person so far; None if it should not.
        left: the groups that it left.
        joined: the person as the joined groups keep them; nothing for groups that do not keep the person.

    Returns:
        How the terminal should hold the person; None if it should not.
    """
    access = set() if before is None else set(before.access) - set(left)
    person = before.person if before is not None and access else None
    for kept in sorted(joined, key=lambda one: one.revision):
        # The device still has the earlier values: only the difference is sent to it.
        person = replacing(kept.person, None if before is None else before.person)
        access.add(kept.group)
    return None if person is None else GrantedPerson(person, tuple(sorted(access)))


def describe_memberships(jobs: Sequence[MembershipJob]) -> str:
    """Return which terminals left and joined groups, as part of a log line."""
    named = [
        f"{job.sn} " + " and ".join(f"{word} {', '.join(sorted(groups))}" for word, groups in _changes(job) if groups)
        for job in jobs[:_NAMED_CHANGES]
    ]
    if len(jobs) > len(named):
        named.append(f"and {len(jobs) - len(named):,} more terminals")
    return "; ".join(named)


def _changes(job: MembershipJob) -> Sequence[tuple[str, Collection[str]]]:
    return (("left", job.left), ("joined", job.joined))
