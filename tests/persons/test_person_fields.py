"""The table of a person's fields: complete, and used by everything that reads or writes persons."""

import json
from dataclasses import MISSING, fields, replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from bridge.import_export.reading import open_person_file
from bridge.import_export.writing import write_person_file
from bridge.model import person as person_model
from bridge.model.faults import InvalidError
from bridge.model.person import Person
from bridge.persons.fields import FIELDS, SHOWN_FIELDS, PersonField
from bridge.persons.schema import PERSON_ENTRY_SCHEMA, merge, parse_person
from tests.support.contract import validator
from tools.describe import PAGE_WITH_PERSON_FIELDS

PHOTO = "ab" * 32
ADA = Person(id="1001", name="Ada", photo=PHOTO)
MQTT_PAGE = (Path(__file__).parents[2] / "docs" / PAGE_WITH_PERSON_FIELDS).read_text()

each_field = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
each_shown_field = pytest.mark.parametrize("field", SHOWN_FIELDS, ids=lambda field: field.name)


def changed(field: PersonField, value: Any) -> Person:
    """Return a person that differs from `ADA` in one field."""
    patch = parse_person({"id": "1001", field.name: value}, timezone=UTC)
    person = merge(replace(patch, id=ADA.id), ADA, None)
    return replace(person, id=patch.id)


def test_every_attribute_has_an_entry_and_every_entry_an_attribute() -> None:
    assert tuple(one.name for one in SHOWN_FIELDS) == person_model.SHOWN_FIELDS
    assert set(person_model.STORED_FIELDS) - set(person_model.SHOWN_FIELDS) == {"photo", "weekly_taken_back"}
    assert {one.name for one in FIELDS if one.is_photo} == {"photo", "photo_file"}


def test_no_two_fields_share_a_name() -> None:
    names = [name for one in FIELDS for name in (one.name, one.vendor_name) if name is not None]
    assert len(names) == len({name.lower() for name in names})


@each_field
def test_the_examples_are_what_a_user_may_give(field: PersonField) -> None:
    assert field.examples
    for value in field.examples:
        for name in filter(None, (field.name, field.vendor_name)):
            given = {"id": "1001", name: value}
            parse_person(given, timezone=UTC)
            validator("Person").validate(given)
            validator("SinglePerson").validate(given)


@each_field
def test_null_sets_the_default_or_is_refused(field: PersonField) -> None:
    given = {"id": "1001", field.name: None}
    assert validator("Person").is_valid(given) is field.kind.accepts_null
    if field.kind.accepts_null:
        assert parse_person(given, timezone=UTC).changes == {field.name: field.default}
        assert changed(field, None) == ADA
    else:
        with pytest.raises(InvalidError) as caught:
            parse_person(given, timezone=UTC)
        assert [fault.path for fault in caught.value.faults] == [field.name]


@each_shown_field
def test_a_value_is_stored_shown_exported_and_imported(field: PersonField, tmp_path: Path) -> None:
    given = next(value for value in field.examples if changed(field, value) != ADA)
    person = changed(field, given)

    # The store.
    assert Person.from_stored(json.loads(json.dumps(person.as_stored()))) == person

    # A reply, which a user may send back.
    shown = person.as_json()
    assert shown[field.name] != ADA.as_json()[field.name]
    entry = {
        **shown,
        "wanted": "present",
        "delivery": "pending",
        "status": None,
        "message": None,
        "changed_at": "2026-11-24T08:00:00.123+00:00",
        "access": ["terminal"],
    }
    validator("PersonEntry", closed=True).validate(entry)
    assert merge(parse_person(shown, timezone=UTC), person, None) == person

    # Files.
    for name in ("persons.csv", "persons.json", "persons.zip"):
        with write_person_file(tmp_path / name, None) as writer:
            writer.add(person, b"jpeg")
        with open_person_file(tmp_path / name, None) as opened:
            (row,) = opened.rows()
        assert row.faults == ()
        assert field.name in row.data
        assert merge(parse_person(row.data, timezone=UTC), None, PHOTO) == person


@each_shown_field
def test_a_field_that_is_absent_stays_and_has_its_default_in_a_new_person(field: PersonField) -> None:
    attribute = next(one for one in fields(Person) if one.name == field.name)
    if attribute.default is MISSING:
        with pytest.raises(LookupError, match="no default"):
            _ = field.default
    else:
        new = merge(parse_person({"id": "1", "name": "Ada"}, timezone=UTC), None, PHOTO)
        assert getattr(new, field.name) == field.default
    for value in field.examples:
        person = changed(field, value)
        unchanged = parse_person({"id": person.id}, timezone=UTC)
        assert getattr(merge(unchanged, person, None), field.name) == getattr(person, field.name)


@each_field
def test_the_schemas_and_the_documents_describe_it(field: PersonField) -> None:
    assert field.description in field.input_schema["description"]
    assert "|" not in field.description
    assert f"| `{field.name}` |" in MQTT_PAGE.partition("### A person")[2].partition("What is absent")[0]
    if field.is_photo:
        assert field.name not in PERSON_ENTRY_SCHEMA["properties"]
        with pytest.raises(LookupError, match="is not shown"):
            _ = field.output_schema
    else:
        shown = PERSON_ENTRY_SCHEMA["properties"][field.name]
        if field.name == "id":
            # The removal of everyone has no id.
            assert shown["type"] == ["string", "null"]
            shown = {**shown, "type": "string", "description": field.output_schema["description"]}
        assert shown == field.output_schema
