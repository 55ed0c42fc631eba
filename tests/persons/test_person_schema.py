"""Reading a person as users write it, and merging a change."""

import json
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.faults import Fault, InvalidError
from bridge.model.person import ALWAYS, Person, Weekly
from bridge.persons.field_kinds import MAXIMUM_NAME_LENGTH
from bridge.persons.fields import FIELDS_BY_KEY
from bridge.persons.photos.sources import InlinePhoto, PhotoFile
from bridge.persons.schema import PersonPatch, merge, parse_person
from bridge.protocol.encoding import escape_photo
from bridge.protocol.requests import PersonFields, decode_request, encode_set_person
from tests.support.person_strategies import CHANGEABLE_FIELDS, changes, persons

PHOTO = "ab" * 32
OTHER_PHOTO = "cd" * 32
NEVER = Weekly(("",) * 7)
ADA = Person(
    id="1001",
    name="Ada",
    card="0042",
    id_number="77",
    photo=PHOTO,
    valid_from=100.0,
    valid_until=200.0,
    pass_count=3,
    visitor=True,
    weekly=ALWAYS,
    enabled=False,
)


def parse(**fields: Any) -> PersonPatch:
    return parse_person({"id": "1001", **fields}, timezone=UTC)


def faults_of(data: object) -> list[Fault]:
    with pytest.raises(InvalidError) as caught:
        parse_person(data, timezone=UTC)
    return list(caught.value.faults)


RIGHT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"name": " Ada Lovelace "}, {"name": "Ada Lovelace"}),
    ({"name": "山田\u3000太郎"}, {"name": "山田\u3000太郎"}),
    ({"name": "علی\u200cرضا"}, {"name": "علی\u200cرضا"}),
    ({"name": "x" * MAXIMUM_NAME_LENGTH}, {"name": "x" * MAXIMUM_NAME_LENGTH}),
    ({"card": "0042"}, {"card": "0042"}),
    ({"card": None, "id_number": ""}, {"card": None, "id_number": None}),
    ({"IC_NO": "00000000", "ID_NO": "7"}, {"card": None, "id_number": "7"}),
    ({"card": "00000000"}, {"card": None}),
    ({"valid_from": "1970-01-02", "valid_until": "1970-01-02"}, {"valid_from": 86400.0, "valid_until": 172799.0}),
    ({"startTs": 5, "endTs": -1}, {"valid_from": 5.0, "valid_until": None}),
    ({"valid_from": None}, {"valid_from": None}),
    ({"pass_count": 0}, {"pass_count": 0}),
    ({"pass_count": 9999}, {"pass_count": 9999}),
    ({"pass_count": 3.0}, {"pass_count": 3}),
    ({"passCount": 10000}, {"pass_count": None}),
    ({"pass_count": None}, {"pass_count": None}),
    ({"visitor": True}, {"visitor": True}),
    ({"visitor": None}, {"visitor": False}),
    ({"enabled": False}, {"enabled": False}),
    ({"weekly": None}, {"weekly": None}),
    ({"weekly": {"default": "00:00-23:59"}}, {"weekly": ALWAYS}),
    ({"weekly": json.dumps(ALWAYS.by_day())}, {"weekly": ALWAYS}),
]


@pytest.mark.parametrize(("fields", "changes"), RIGHT)
def test_only_given_fields_are_changed(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    assert parse(**fields) == PersonPatch(id="1001", changes=changes)


def test_a_time_without_an_offset_is_the_bridges_own() -> None:
    patch = parse_person({"id": "1", "startTs": "1970-01-02T00:00"}, timezone=timezone(timedelta(hours=1)))
    assert patch.changes == {"valid_from": 82800.0}


def test_a_photo_becomes_a_photo_source() -> None:
    assert parse(photo="AAAA") == PersonPatch(id="1001", photo_source=InlinePhoto("AAAA"))
    assert parse(photo_file="ada.jpg") == PersonPatch(id="1001", photo_source=PhotoFile("ada.jpg"))


@pytest.mark.parametrize("person_id", ["1", "a" * 64, "A.b_c@d-9", "00012"])
def test_a_valid_id(person_id: str) -> None:
    assert parse_person({"id": person_id}, timezone=UTC).id == person_id


WRONG: list[tuple[dict[Any, Any], str, str]] = [
    ({"id": ""}, "id", "1 to 64 letters"),
    ({"id": "a" * 65}, "id", "1 to 64 letters"),
    ({"id": "[1]"}, "id", "1 to 64 letters"),
    ({"id": "1,2"}, "id", "1 to 64 letters"),
    ({"id": "1\n"}, "id", "1 to 64 letters"),
    ({"id": "é"}, "id", "1 to 64 letters"),
    ({"id": None}, "id", "1 to 64 letters"),
    ({"id": True}, "id", "1 to 64 letters"),
    ({"id": 1001}, "id", "quotation marks"),
    ({"name": None}, "name", "must be text"),
    ({"name": ""}, "name", "must not be empty"),
    ({"name": " \t "}, "name", "must not be empty"),
    ({"name": 7}, "name", "must be text"),
    ({"name": ["Ada"]}, "name", "must be text"),
    ({"name": "x" * (MAXIMUM_NAME_LENGTH + 1)}, "name", "at most 128"),
    ({"name": " " * 10_000_000 + "Ada"}, "name", "at most 128"),
    ({"name": "Ada\0"}, "name", "U+0000"),
    ({"name": "A\nda"}, "name", "U+000A"),
    ({"name": "A\u202eda"}, "name", "U+202E"),
    ({"name": "A\u2028da"}, "name", "U+2028"),
    ({"name": "A\ud800da"}, "name", "U+D800"),
    ({"card": 42}, "card", "quotation marks"),
    ({"IC_NO": 4.2}, "IC_NO", "quotation marks"),
    ({"card": False}, "card", "must be text"),
    ({"card": "4\x7f2"}, "card", "U+007F"),
    ({"id_number": "1" * 65}, "id_number", "at most 64"),
    ({"valid_from": "soon"}, "valid_from", "must be a time"),
    ({"endTs": "soon"}, "endTs", "must be a time"),
    ({"pass_count": -1}, "pass_count", "0 to 9999"),
    ({"pass_count": 10001}, "pass_count", "0 to 9999"),
    ({"pass_count": 1.5}, "pass_count", "whole number"),
    ({"pass_count": True}, "pass_count", "whole number"),
    ({"passCount": "5"}, "passCount", "whole number"),
    ({"visitor": "true"}, "visitor", "without quotation marks"),
    ({"visitor": 1}, "visitor", "true or false"),
    ({"enabled": None}, "enabled", "true or false"),
    ({"enabled": 0}, "enabled", "true or false"),
    ({"weekly": {"default": "", "Monday": "9-5"}}, "weekly.Monday", "is not a range"),
    ({"weekly": {"Monday": ""}}, "weekly", "lacks Tuesday"),
    ({"photo": None}, "photo", "leave it out"),
    ({"photo": ""}, "photo", "leave it out"),
    ({"photo": 7}, "photo", "must be base64"),
    ({"photo_file": None}, "photo_file", "leave it out"),
    ({"photo_file": "a\0b"}, "photo_file", "path"),
    ({"photo_file": "a" * 5000}, "photo_file", "4096"),
    ({"photo": "AAAA", "photo_file": "a.jpg"}, "photo_file", "'photo' or 'photo_file'"),
    ({"card": "1", "IC_NO": "1"}, "IC_NO", "same as 'card'"),
    ({"endTs": -1, "valid_until": None}, "endTs", "same as 'valid_until'"),
    ({"nmae": "Ada"}, "nmae", "did you mean 'name'"),
    ({"ic_no": "1"}, "ic_no", "did you mean 'IC_NO'"),
    ({"start_ts": 1}, "start_ts", "did you mean 'startTs'"),
    ({"x" * 100: 1}, "x" * 39 + "…", "unknown key"),
    ({7: 1}, "7", "unknown key"),
    ({"key": "abc"}, "key", "belongs to the terminal"),
    ({"request_id": "r"}, "request_id", 'beside "persons"'),
    ({str(number): 1 for number in range(100_000)}, "", "100001 keys"),
]


@pytest.mark.parametrize(("fields", "path", "hint"), WRONG, ids=[f"{path}-{hint}" for _, path, hint in WRONG])
def test_a_fault_names_the_field_and_the_remedy(fields: dict[Any, Any], path: str, hint: str) -> None:
    (fault,) = faults_of({"id": "1001", **fields})
    assert fault.path == path
    assert hint in fault.message


@pytest.mark.parametrize("data", [None, 7, "1001", [], [{"id": "1"}], True])
def test_a_person_must_be_an_object(data: object) -> None:
    (fault,) = faults_of(data)
    assert fault.path == ""
    assert "must be an object" in fault.message


def test_all_faults_are_reported_at_once() -> None:
    paths = [fault.path for fault in faults_of({"name": "", "endTs": "soon", "weekly": {"default": "x"}, "nme": 1})]
    assert paths == ["name", "endTs", "weekly.default", "nme", "id"]


def test_faults_and_logs_hide_personal_data() -> None:
    secret = "Hopper"
    patch = parse(name=secret, card=secret, photo=secret, valid_from=None)
    assert secret not in repr(patch)
    for field in ("name", "card", "id_number", "photo_file"):
        assert secret not in faults_of({"id": "1", field: secret + "\0" * 5000})[0].message


# -- merging


def test_a_new_person_needs_a_name_and_a_photo() -> None:
    with pytest.raises(InvalidError) as caught:
        merge(parse(card="1"), None, None)
    assert [fault.path for fault in caught.value.faults] == ["name", "photo"]
    assert merge(parse(name="Ada"), None, PHOTO) == Person(id="1001", name="Ada", photo=PHOTO)


def test_absent_fields_stay_unchanged() -> None:
    assert merge(parse(), ADA, None) == ADA
    assert merge(parse(card="9"), ADA, None) == replace(ADA, card="9")


def test_null_sets_the_default() -> None:
    assert merge(parse(card=None, pass_count=None, valid_from=None), ADA, None) == replace(
        ADA, card=None, pass_count=None, valid_from=None
    )


def test_a_new_photo_replaces_the_old_one() -> None:
    assert merge(parse(photo="AAAA"), ADA, OTHER_PHOTO) == replace(ADA, photo=OTHER_PHOTO)


def test_a_removed_weekly_rule_is_remembered_until_there_is_a_new_one() -> None:
    back = merge(parse(weekly=None), ADA, None)
    assert (back.weekly, back.weekly_taken_back) == (None, True)
    assert merge(parse(name="Other"), back, None).weekly_taken_back
    again = merge(parse(weekly={"default": None}), back, None)
    assert (again.weekly, again.weekly_taken_back) == (NEVER, False)
    assert merge(parse(weekly=None), again, None).weekly_taken_back


def test_no_removal_is_remembered_if_there_never_was_a_rule() -> None:
    new = merge(parse(name="Ada", weekly=None), None, PHOTO)
    assert not new.weekly_taken_back
    assert not merge(parse(weekly=None), new, None).weekly_taken_back


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"valid_from": 200}, "valid_from"),
        ({"valid_from": 201}, "valid_from"),
        ({"valid_until": 99}, "valid_until"),
        ({"startTs": 9, "endTs": 8}, "valid_until"),
    ],
)
def test_a_backwards_time_range_is_a_fault_after_merging(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidError) as caught:
        merge(parse(**fields), ADA, None)
    assert [fault.path for fault in caught.value.faults] == [path]


def test_a_range_may_be_moved_as_a_whole() -> None:
    moved = merge(parse(valid_from=300, valid_until=400), ADA, None)
    assert (moved.valid_from, moved.valid_until) == (300.0, 400.0)


CHANGES = changes()
PHOTOS = st.none() | st.sampled_from([PHOTO, OTHER_PHOTO])


@st.composite
def changed_persons(draw: st.DrawFn) -> Person:
    person = merge(parse(**{"name": "Ada", **draw(CHANGES)}), None, PHOTO)
    return merge(parse(**draw(CHANGES)), person, draw(PHOTOS))


@given(CHANGES, PHOTOS, changed_persons())
def test_a_repeated_change_changes_nothing(fields: dict[str, Any], photo: str | None, person: Person) -> None:
    once = merge(parse(**fields), person, photo)
    assert merge(parse(**fields), once, photo) == once


@given(CHANGES, changed_persons())
def test_a_change_leaves_other_fields_unchanged(fields: dict[str, Any], person: Person) -> None:
    after = merge(parse(**fields), person, None)
    for field in CHANGEABLE_FIELDS:
        if field.name not in fields:
            assert getattr(after, field.name) == getattr(person, field.name)
    assert after.photo == person.photo


@given(CHANGES, CHANGES, changed_persons())
def test_two_changes_equal_one_with_both(first: dict[str, Any], second: dict[str, Any], person: Person) -> None:
    apart = merge(parse(**second), merge(parse(**first), person, None), None)
    together = merge(parse(**{**first, **second}), person, None)
    # The first change may have set a rule that the second removed.
    assert replace(apart, weekly_taken_back=False) == replace(together, weekly_taken_back=False)


@given(persons())
def test_a_shown_person_may_be_sent_back(person: Person) -> None:
    assert merge(parse_person(person.as_json(), timezone=UTC), person, None) == person


@given(persons())
def test_every_person_can_be_sent(person: Person) -> None:
    fields = PersonFields(
        id=person.id,
        name=person.name,
        card=person.card or "",
        id_number=person.id_number or "",
        photo=escape_photo("AAAA"),
        start_ts=-1 if person.valid_from is None else person.valid_from,
        end_ts=-1 if person.valid_until is None else person.valid_until,
        pass_count=10000 if person.pass_count is None else person.pass_count,
        visitor=person.visitor,
        weekly=None if person.weekly is None else person.weekly.by_day(),
    )
    decode_request(encode_set_person(fields, msgid="m", sn="T1"))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([key for key in FIELDS_BY_KEY if key != "id"]) | st.text(max_size=8)


@given(ANY | st.dictionaries(KEYS, ANY, max_size=8).map(lambda fields: {"id": "1001", **fields}))
def test_any_json_gives_a_patch_or_faults(data: object) -> None:
    try:
        patch = parse_person(data, timezone=UTC)
        person = merge(patch, ADA, None)
    except InvalidError as error:
        assert all(fault.message for fault in error.faults)  # noqa: PT017  both ends are right, each in its way
        return
    assert Person.from_stored(json.loads(json.dumps(person.as_stored()))) == person
