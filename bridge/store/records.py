"""Values of the model as rows, and back."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
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
        "asked": None if entry.asked is None else _write_asked(entry.asked),
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
        asked=None if row["asked"] is None else _read_asked(row["asked"]),
    )


def person_key(person_id: str | None) -> str:
    """Return what stands for a person, or for everyone, in the key."""
    return EVERYONE if person_id is None else person_id


def sync_row(sync: OpenSync) -> dict[str, Any]:
    """Write a sync."""
    return {"sn": sync.sn, "revision": sync.revision, "asked": _write_asked(sync.asked)}


def read_sync(row: RowMapping) -> OpenSync:
    """Read a sync."""
    return OpenSync(id=row["id"], sn=row["sn"], revision=row["revision"], asked=_read_asked(row["asked"]))


def word_row(word: FinalReply) -> dict[str, Any]:
    """Write a last word; its reply is one on a person change, without faults or persons."""
    return {"reply": word.reply.as_json(), "origin": _write_origin(word.origin)}


def read_word(row: RowMapping) -> FinalReply:
    """Read a last word."""
    reply = row["reply"]
    return FinalReply(
        id=row["id"],
        reply=Reply(
            **{**reply, "outcome": Outcome(reply["outcome"]), "at": datetime.fromisoformat(reply["at"])},
        ),
        origin=_read_origin(row["origin"]),
    )


def _write_asked(asked: RequestContext) -> dict[str, Any]:
    return {
        "command": asked.command,
        "request_id": asked.request_id,
        "origin": _write_origin(asked.origin),
        "received_at": asked.received_at,
        "boot_id": asked.boot_id,
    }


def _read_asked(stored: Mapping[str, Any]) -> RequestContext:
    return RequestContext(**{**stored, "origin": _read_origin(stored["origin"])})


def _write_origin(origin: Origin) -> dict[str, Any]:
    correlation = origin.correlation_data
    return {
        "source": origin.source,
        "user": origin.user,
        "response_topic": origin.response_topic,
        "correlation_data": None if correlation is None else b64encode(correlation).decode(),
        "assured": origin.assured,
    }


def _read_origin(stored: Mapping[str, Any]) -> Origin:
    correlation = stored["correlation_data"]
    return Origin(**{**stored, "correlation_data": None if correlation is None else b64decode(correlation)})
