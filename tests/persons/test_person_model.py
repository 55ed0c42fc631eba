"""Persons and weekly rules as values."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.faults import Fault
from bridge.model.origin import Origin
from bridge.model.person import ALWAYS, SHOWN_FIELDS, WEEKDAYS, Person, Weekly
from bridge.model.person_entry import RequestContext
from bridge.model.reply import Outcome, Reply
from bridge.protocol import requests
from tests.support.person_strategies import persons

RANGES = st.sampled_from(["", "09:00-12:35", "09:00-12:35;13:25-16:25", "00:00-23:59"])
WEEKLIES = st.builds(Weekly, st.tuples(RANGES, RANGES, RANGES, RANGES, RANGES, RANGES, RANGES))
ADA = Person(id="1001", name="Ada Lovelace", card="0042", id_number="secret-id", photo="ab" * 32)


@given(persons(), st.text(min_size=1))
def test_a_person_comes_back_from_the_store_as_it_was(person: Person, name: str) -> None:
    person = replace(person, name=name)
    assert Person.from_stored(json.loads(json.dumps(person.as_stored()))) == person


def test_fields_of_a_newer_version_survive_an_older_versions_write() -> None:
    written_by_a_newer_version = {
        **ADA.as_stored(),
        "nick": "Countess",
        "unknown": [1, {"deep": None}],
    }
    read = Person.from_stored(written_by_a_newer_version)
    assert replace(read, card="43").as_stored() == {**written_by_a_newer_version, "card": "43"}
    assert read.as_json() == ADA.as_json()
    assert read != ADA
    assert hash(read) == hash(ADA)


def test_a_field_that_an_older_version_did_not_store_gets_its_default() -> None:
    assert Person.from_stored({"id": "1001", "name": "Ada", "photo": "ab" * 32}) == Person(
        id="1001", name="Ada", photo="ab" * 32
    )
    with pytest.raises(TypeError, match="photo"):
        Person.from_stored({"id": "1001", "name": "Ada"})


def test_unknown_stored_fields_of_a_request_and_its_origin_are_kept() -> None:
    origin = Origin(source="topic", correlation_data=b"\x007")
    request = RequestContext(command="setPerson", request_id="r1", origin=origin, received_at=1.5, boot_id="b1")
    stored = json.loads(json.dumps(request.as_stored()))
    assert RequestContext.from_stored(stored) == request
    newer = {**stored, "priority": 3, "origin": {**stored["origin"], "tenant": "north"}}
    assert RequestContext.from_stored(newer).as_stored() == newer
    assert RequestContext.from_stored(newer) != request
    assert Origin.from_stored({"source": "topic"}) == Origin(source="topic")


def test_a_stored_reply_of_a_newer_version_is_read() -> None:
    at = datetime(2026, 11, 24, 8, tzinfo=UTC)
    faults = (Fault("weekly.Monday", "is not a range"),)
    reply = Reply(command="setPerson", outcome=Outcome.INVALID, at=at, person_id="1001", faults=faults)
    stored = json.loads(json.dumps(reply.as_json()))
    assert Reply.from_stored(stored) == reply
    assert Reply.from_stored({**stored, "attempts": 2}) == reply
    assert Reply.from_stored({key: stored[key] for key in ("command", "outcome", "at")}) == Reply(
        command="setPerson", outcome=Outcome.INVALID, at=at
    )


def test_a_reply_shows_a_person_without_photo_and_with_times_in_iso_8601() -> None:
    monday = Weekly(("09:00-12:35", "", "", "", "", "", ""))
    shown = replace(ADA, valid_from=1.5, weekly=monday, weekly_taken_back=True).as_json()
    assert shown.keys() == set(SHOWN_FIELDS)
    assert {"photo", "weekly_taken_back"}.isdisjoint(shown)
    assert (
        shown.items()
        >= {
            "id": "1001",
            "name": "Ada Lovelace",
            "card": "0042",
            "id_number": "secret-id",
            "valid_from": "1970-01-01T00:00:01.500+00:00",
            "valid_until": None,
            "pass_count": None,
            "visitor": False,
            "weekly": {"Monday": "09:00-12:35", **dict.fromkeys(WEEKDAYS[1:], "")},
            "enabled": True,
        }.items()
    )


def test_repr_hides_name_and_numbers() -> None:
    assert "1001" in repr(ADA)
    for secret in ("Ada", "0042", "secret-id"):
        assert secret not in repr(ADA)


def test_equal_means_equal_content() -> None:
    assert replace(ADA) == ADA
    assert replace(ADA, card="43") != ADA


def test_always_is_every_hour_of_every_day() -> None:
    assert ALWAYS.by_day() == dict.fromkeys(WEEKDAYS, "00:00-23:59")


def test_the_weekdays_are_those_of_the_wire() -> None:
    assert WEEKDAYS == requests.WEEKDAYS


@given(WEEKLIES)
def test_a_weekly_rule_is_built_from_its_days(weekly: Weekly) -> None:
    assert Weekly.from_days(weekly.by_day()) == weekly


def test_a_weekly_rule_needs_all_days() -> None:
    with pytest.raises(KeyError):
        Weekly.from_days({"Monday": ""})
