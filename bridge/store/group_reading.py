"""Queries that show groups: their members' persons, and what memberships still have to change. They only read."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from sqlalchemy import Connection, func, select

from bridge.model.person_entry import DeliveryState, MembershipJob
from bridge.store.group_queries import group_sizes, has_group_access, membership_jobs, memberships
from bridge.store.insertion import batches
from bridge.store.tables import GROUP_PERSON, PERSON_ENTRY


def deliveries(connection: Connection, person_ids: Collection[str]) -> dict[str, dict[str, DeliveryState]]:
    """Return by person and SN how far the delivery is, on the terminals that should hold the person."""
    found: defaultdict[str, dict[str, DeliveryState]] = defaultdict(dict)
    entry = PERSON_ENTRY.c
    for ids in batches(sorted(person_ids)):
        query = select(entry.person_id, entry.sn, entry.delivery).where(
            entry.person_id.in_(ids), entry.desired.is_not(None)
        )
        for row in connection.execute(query):
            found[row.person_id][row.sn] = DeliveryState(row.delivery)
    return found


def unfinished_changes(connection: Connection) -> list[tuple[MembershipJob, int]]:
    """Return the unfinished changes of memberships, each with the number of persons that it has yet to look at."""
    return [(job, _remaining(connection, job)) for job in membership_jobs(connection)]


def unnoticed_changes(connection: Connection, current: Mapping[str, Collection[str]]) -> list[MembershipJob]:
    """Return the changes of memberships that the next start of the bridge will notice and that concern persons.

    Args:
        connection: a connection.
        current: by SN the groups of all known terminals, `all` included.
    """
    stored = memberships(connection)
    kept = group_sizes(connection).keys()
    changes: list[MembershipJob] = []
    for sn in sorted(stored.keys() | current.keys()):
        before, now = stored.get(sn, set()), set(current.get(sn, ()))
        joined, left = (now - before) & kept, before - now
        if left and not has_group_access(connection, sn):
            left = set()
        if joined or left:
            changes.append(MembershipJob(id=0, sn=sn, left=frozenset(left), joined=frozenset(joined)))
    return changes


def _remaining(connection: Connection, job: MembershipJob) -> int:
    remaining = 0
    if job.left and job.left_after is not None:
        entry = PERSON_ENTRY.c
        leaving = select(func.count()).where(
            entry.sn == job.sn, entry.person_id > job.left_after, entry.access.is_not(None)
        )
        remaining += connection.execute(leaving).scalar_one()
    if job.joined:
        kept = GROUP_PERSON.c
        joining = select(func.count()).where(
            kept.group_name.in_(sorted(job.joined)), kept.revision > job.joined_after, kept.revision < job.id
        )
        remaining += connection.execute(joining).scalar_one()
    return remaining
