"""Values of the model as rows, and back."""

from typing import Any

from sqlalchemy import RowMapping

from bridge.model.origin import Origin
from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, FinalReply, OpenSync, PersonEntry, RequestContext
from bridge.model.reply import Reply
from bridge.store.tables import EVERYONE


def entry_row(entry: PersonEntry) -> dict[str, Any]:
    """Write a person's entry."""
    return {
        "sn": entry.sn,
        "person_id": person_key(entry.person_id),
        "revision": entry.revision,
        "desired": None if entry.person is None else entry.person.as_stored(),
        "photo_sha256": None if entry.person is None else entry.person.photo,
        "valid_until": None if entry.person is None else entry.person.expires_at,
        "held": entry.held,
        "delivery": entry.delivery.value,
        "confirmed_revision": entry.confirmed_revision,
        "status": entry.status,
        "message": entry.message,
        "changed_at": entry.changed_at,
        "asked": None if entry.request is None else entry.request.as_stored(),
    }


def read_entry(row: RowMapping) -> PersonEntry:
    """Read a person's entry."""
    return PersonEntry(
        sn=row["sn"],
        person_id=None if row["person_id"] == EVERYONE else row["person_id"],
        revision=row["revision"],
        person=None if row["desired"] is None else Person.from_stored(row["desired"]),
        delivery=DeliveryState(row["delivery"]),
        confirmed_revision=row["confirmed_revision"],
        status=row["status"],
        message=row["message"],
        changed_at=row["changed_at"],
        request=None if row["asked"] is None else RequestContext.from_stored(row["asked"]),
    )


def person_key(person_id: str | None) -> str:
    """Return what stands for a person, or for everyone, in the key."""
    return EVERYONE if person_id is None else person_id


def sync_row(sync: OpenSync) -> dict[str, Any]:
    """Write a sync."""
    return {"sn": sync.sn, "revision": sync.revision, "asked": sync.request.as_stored()}


def read_sync(row: RowMapping) -> OpenSync:
    """Read a sync."""
    return OpenSync(
        id=row["id"], sn=row["sn"], revision=row["revision"], request=RequestContext.from_stored(row["asked"])
    )


def word_row(word: FinalReply) -> dict[str, Any]:
    """Write a last word; its reply is one on a person change, without faults or persons."""
    return {"reply": word.reply.as_json(), "origin": word.origin.as_stored()}


def read_word(row: RowMapping) -> FinalReply:
    """Read a last word."""
    return FinalReply(id=row["id"], reply=Reply.from_stored(row["reply"]), origin=Origin.from_stored(row["origin"]))
