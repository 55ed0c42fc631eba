"""Schemas and code accept and refuse the same values, except for rules that only descriptions can state."""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bridge.core.command_definition import CommandDefinition, InvalidCommandError
from bridge.core.commands import ADMIT, COMMANDS, REMOVE_PERSONS, SET_PERSONS, SYNC_PERSONS
from bridge.model.faults import InvalidError
from bridge.persons.field_kinds import END_TIME, START_TIME
from bridge.persons.fields import FIELDS_BY_KEY
from bridge.persons.schema import parse_person
from tests.support.contract import accepts, validator
from tests.support.schema_strategies import mutated, valid
from tools.catalogue import catalogue

TARGET = "T1"
CATALOGUE = catalogue()


def values_of(title: str) -> st.SearchStrategy[Any]:
    return valid(CATALOGUE.schema(title, ""), lambda referred: CATALOGUE.schema(referred, "")).filter(
        validator(title).is_valid
    )


PAYLOADS = {
    definition.name: values_of(definition.payload_schema["title"])
    for definition in COMMANDS
    if definition is not SET_PERSONS
}
COMMON = {"request_id": st.none() | st.text(max_size=5), "asked_at": values_of("AskedAt")}
# Each person is checked separately, by tests below.
PAYLOADS[SET_PERSONS.name] = st.one_of(
    st.lists(st.just({"id": "1"}), min_size=1, max_size=3),
    st.fixed_dictionaries(
        {"persons": st.lists(st.just({"id": "1"}), min_size=1, max_size=3)},
        optional=COMMON,
    ),
    st.fixed_dictionaries({"id": st.just("1")}, optional=COMMON),
)
PERSONS = values_of("Person")

relaxed = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], max_examples=60)


def faults_of(definition: CommandDefinition, payload: object) -> list[str] | None:
    try:
        definition.parse(orjson.dumps(payload), TARGET)
    except InvalidCommandError as error:
        return [fault.path for fault in error.faults]
    return None


@pytest.mark.parametrize("definition", COMMANDS, ids=lambda definition: definition.name)
@relaxed
@given(data=st.data())
def test_a_command_that_the_schema_accepts_is_accepted(definition: CommandDefinition, data: st.DataObject) -> None:
    payload = data.draw(PAYLOADS[definition.name])
    if isinstance(payload, dict) and "confirm" in payload:
        payload["confirm"] = TARGET
    if isinstance(payload, dict):
        # Rules of the descriptions: printable, and an existing time.
        checked = payload if definition is ADMIT else {"request_id": payload.get("request_id")}
        assume(all(not isinstance(value, str) or value.isprintable() for value in checked.values()))
        assume(_exists(payload.get("asked_at")))
    assert accepts(definition, orjson.dumps(payload))
    assert faults_of(definition, payload) is None


@pytest.mark.parametrize("definition", COMMANDS, ids=lambda definition: definition.name)
@relaxed
@given(data=st.data())
def test_a_command_that_the_schema_refuses_is_refused(definition: CommandDefinition, data: st.DataObject) -> None:
    payload = data.draw(mutated(PAYLOADS[definition.name]))
    # Of a list of persons only the envelope is checked here: a person's faults are reported for that person.
    if isinstance(payload, dict) and "confirm" in payload:
        payload["confirm"] = TARGET
    assume(not accepts(definition, orjson.dumps(payload)))
    if definition is SET_PERSONS:
        persons = payload.get("persons", payload) if isinstance(payload, dict) else payload
        assume(isinstance(payload, dict) and "persons" in payload and not isinstance(persons, list))
    assert faults_of(definition, payload) is not None


@pytest.mark.parametrize("definition", [REMOVE_PERSONS, SYNC_PERSONS], ids=lambda definition: definition.name)
@given(confirm=st.text())
def test_the_schema_cannot_check_confirm(definition: CommandDefinition, confirm: str) -> None:
    assume(confirm != TARGET)
    key = "all" if definition is REMOVE_PERSONS else "clear"
    payload = {key: True, "confirm": confirm}
    assert accepts(definition, orjson.dumps(payload))
    assert faults_of(definition, payload) == ["confirm"]


@relaxed
@given(person=PERSONS)
def test_a_person_that_the_schema_accepts_is_accepted_except_for_rules_in_descriptions(person: dict[str, Any]) -> None:
    try:
        parse_person(orjson.loads(orjson.dumps(person)), timezone=UTC)
    except InvalidError as error:
        unexpected = [fault for fault in error.faults if not _breaks_a_description(fault.path, fault.message, person)]
        assert not unexpected, person


@relaxed
@given(person=mutated(PERSONS))
def test_a_person_that_the_schema_refuses_is_refused(person: Any) -> None:
    assume(not validator("Person").is_valid(person))
    assume(not _is_valid_without_spaces(person))
    with pytest.raises(InvalidError):
        parse_person(orjson.loads(orjson.dumps(person)), timezone=UTC)


def around_the_bounds() -> list[tuple[str, object]]:
    around: list[tuple[str, object]] = []
    for name, schema in CATALOGUE.schema("Person", "")["properties"].items():
        around += [
            (name, schema[bound] + step) for bound in ("minimum", "maximum") if bound in schema for step in (-1, 0, 1)
        ]
        if "maxLength" in schema:
            around += [(name, "x" * (schema["maxLength"] + step)) for step in (-1, 0, 1)]
        if "minLength" in schema:
            around += [(name, "x" * (schema["minLength"] + step)) for step in (-1, 0, 1)]
    return around


@pytest.mark.parametrize(("name", "value"), around_the_bounds(), ids=lambda part: str(part)[:12])
def test_schema_and_code_have_the_same_bounds(name: str, value: Any) -> None:
    agree_on({"id": "1", name: value})


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "", [], {}, [7]], ids=repr)
@pytest.mark.parametrize("name", list(CATALOGUE.schema("Person", "")["properties"]))
def test_schema_and_code_accept_the_same_types(name: str, value: object) -> None:
    # Only the description says what the text of a rule must contain.
    if (name, value) != ("weekly", ""):
        agree_on({"id": "1", name: value})


@pytest.mark.parametrize("value", [None, True, 7, "", "a", [], {}, [7], ["a"]], ids=repr)
@pytest.mark.parametrize("name", list(ADMIT.payload_schema["properties"]))
def test_schema_and_code_accept_the_same_types_for_a_terminal(name: str, value: object) -> None:
    payload = {"sn": "T2", name: value}
    assert (faults_of(ADMIT, payload) is None) is accepts(ADMIT, orjson.dumps(payload))


def _exists(time: object) -> bool:
    try:
        return not isinstance(time, str) or bool(datetime.fromisoformat(time.upper()))
    except ValueError:
        return False


def agree_on(person: Any) -> None:
    try:
        parse_person(person, timezone=UTC)
    except InvalidError:
        assert not validator("Person").is_valid(person)
    else:
        assert validator("Person").is_valid(person)


def _breaks_a_description(path: str, message: str, person: Mapping[str, Any]) -> bool:
    """Return whether the fault breaks a rule of a description, which no schema can state."""
    field, _, rest = path.partition(".")
    if "control characters" in message:
        return any(unicodedata.category(character).startswith(("C", "Z")) for character in person[field])
    if FIELDS_BY_KEY[field].kind in (START_TIME, END_TIME):
        # For example the 31st of June.
        return isinstance(person[field], str) and ("is not a time" in message or "between 1970 and 9999" in message)
    if field == "weekly":
        if isinstance(person[field], str):
            return True
        words = ("overlap", "no length", "is backwards", "more than", "is given twice", "lacks")
        return any(word in message for word in words) or bool(rest and "twice" in message)
    return field == "photo_file" and "path of at most" in message and "\0" in person[field]


def _is_valid_without_spaces(person: object) -> bool:
    """Return whether a person is valid without the spaces around texts, which the bridge removes."""
    if not isinstance(person, Mapping):
        return False
    tidied = {
        key: value.strip() if isinstance(value, str) and key not in ("id", "photo", "photo_file", "weekly") else value
        for key, value in person.items()
    }
    return tidied != person and validator("Person").is_valid(tidied)
