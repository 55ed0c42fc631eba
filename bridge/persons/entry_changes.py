"""How a change of a person alters the stored entry of a terminal. Pure."""

from dataclasses import dataclass
from datetime import datetime

from bridge.model.person import PhotoReference
from bridge.model.person_entry import PersonEntry, RequestContext
from bridge.persons.membership import GrantedPerson
from bridge.persons.schema import PersonPatch, added_again, merge


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOrder:
    """When and by which request entries are changed.

    Attributes:
        now: the time.
        request: the request that gets the final reply.
    """

    now: datetime
    request: RequestContext | None


def granted(
    before: PersonEntry | None, patch: PersonPatch, photo: PhotoReference | None, scope: str | None
) -> GrantedPerson:
    """Return how a terminal should hold a person after a set.

    Args:
        before: the entry so far; None for none.
        patch: the given fields.
        photo: the given photo; None for none.
        scope: added to the access; None for a set without name and photo, which adds none.

    Raises:
        InvalidError: as `merge`.
    """
    stored = None if before is None else before.person
    wanted = merge(patch, stored, photo)
    if before is not None and stored is None:
        wanted = added_again(wanted)
    access = () if before is None else before.access
    return GrantedPerson(wanted, access if scope is None else tuple(sorted({*access, scope})))


def pending_entry(
    key: tuple[str, str | None],
    before: PersonEntry | None,
    revision: int,
    order: ChangeOrder,
    held: GrantedPerson | None = None,
) -> PersonEntry:
    """Return a change that is pending from now on; without a person it is a removal.

    Args:
        key: SN and person; None for everyone.
        before: the entry so far; None for none.
        revision: of the change.
        order: the time and the request.
        held: how the terminal should hold the person.
    """
    sn, person_id = key
    return PersonEntry(
        sn=sn,
        person_id=person_id,
        revision=revision,
        person=None if held is None else held.person,
        changed_at=order.now,
        confirmed_revision=None if before is None else before.confirmed_revision,
        request=order.request,
        access=() if held is None else held.access,
    )
