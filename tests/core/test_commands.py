"""The payloads of every command: valid and invalid ones."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.command_definition import CommandDefinition, InvalidCommandError
from bridge.core.commands import (
    ADMIT,
    COMMANDS,
    FORGET,
    GET_PERSONS,
    OPEN,
    REBOOT,
    REMOVE_PERSONS,
    SET_PERSONS,
    SYNC_PERSONS,
)
from bridge.model.commands import (
    Admit,
    Command,
    Forget,
    GetPersons,
    Open,
    Reboot,
    RemovePersons,
    SetPersons,
    SyncPersons,
)
from bridge.model.secret import Secret

AT = datetime(2026, 11, 24, 7, tzinfo=UTC)

VALID: list[tuple[CommandDefinition, str, Command]] = [
    (OPEN, "", Open()),
    (OPEN, "PRESS", Open()),
    (OPEN, "{}", Open()),
    (OPEN, '{"request_id": "r1"}', Open(request_id="r1")),
    (OPEN, '{"request_id": "r1", "asked_at": "2026-11-24T08:00:00+01:00"}', Open(request_id="r1", asked_at=AT)),
    (OPEN, '{"asked_at": "2026-11-24t07:00z"}', Open(asked_at=AT)),
    (OPEN, '{"asked_at": null}', Open()),
    (REBOOT, '{"asked_at": 1795503600.0}', Reboot(asked_at=AT)),
    (REBOOT, "PRESS", Reboot()),
    (SET_PERSONS, '{"id": "1", "name": "Ada"}', SetPersons(persons=[{"id": "1", "name": "Ada"}])),
    (SET_PERSONS, '{"id": "1", "request_id": "r"}', SetPersons(persons=[{"id": "1"}], request_id="r")),
    (SET_PERSONS, '{"id": "1", "asked_at": "2026-11-24T07:00Z"}', SetPersons(persons=[{"id": "1"}], asked_at=AT)),
    (
        SET_PERSONS,
        '{"persons": [{"id": "1"}], "asked_at": "2026-11-24T07:00Z"}',
        SetPersons(persons=[{"id": "1"}], asked_at=AT),
    ),
    (REMOVE_PERSONS, '{"id": "1", "asked_at": 1795503600}', RemovePersons(ids=("1",), asked_at=AT)),
    (
        REMOVE_PERSONS,
        '{"all": true, "confirm": "T1", "asked_at": 1795503600}',
        RemovePersons(ids=None, asked_at=AT),
    ),
    (SYNC_PERSONS, '{"asked_at": 1795503600.0}', SyncPersons(asked_at=AT)),
    (SET_PERSONS, '[{"id": "1"}, 7]', SetPersons(persons=[{"id": "1"}, 7])),
    (SET_PERSONS, '{"persons": [{"id": "1"}], "request_id": "r"}', SetPersons(persons=[{"id": "1"}], request_id="r")),
    (REMOVE_PERSONS, '{"id": "1"}', RemovePersons(ids=("1",))),
    (REMOVE_PERSONS, '{"ids": ["1", "2", "1"], "request_id": "r"}', RemovePersons(ids=("1", "2"), request_id="r")),
    (REMOVE_PERSONS, '{"all": true, "confirm": "T1"}', RemovePersons(ids=None)),
    (GET_PERSONS, "", GetPersons()),
    (GET_PERSONS, '{"id": "1"}', GetPersons(id="1")),
    (SYNC_PERSONS, "", SyncPersons()),
    (SYNC_PERSONS, "PRESS", SyncPersons()),
    (SYNC_PERSONS, "{}", SyncPersons()),
    (SYNC_PERSONS, '{"clear": true, "confirm": "T1"}', SyncPersons(clear=True)),
    (ADMIT, '{"sn": "T2"}', Admit(sn="T2")),
    (
        ADMIT,
        '{"sn": "T2", "name": "Gate", "area": null, "groups": ["a"], "username": "u", "password": "p", "key": "k"}',
        Admit(
            sn="T2",
            changes={
                "name": "Gate",
                "area": None,
                "groups": ("a",),
                "username": "u",
                "password": Secret("p"),
                "key": Secret("k"),
            },
        ),
    ),
    (FORGET, '{"sn": "T2", "request_id": "r"}', Forget(sn="T2", request_id="r")),
]

INVALID: list[tuple[CommandDefinition, str, str, str]] = [
    (OPEN, "press", "", "JSON"),
    (OPEN, '"PRESS"', "", "must be"),
    (OPEN, "null", "", "must not be null"),
    (OPEN, "[1]", "", "not a list"),
    (OPEN, '{"requestid": "r"}', "requestid", "did you mean 'request_id'"),
    (OPEN, '{"request_id": 7}', "request_id", "text of at most 128"),
    (OPEN, '{"request_id": "%s"}' % ("x" * 129), "request_id", "text of at most 128"),
    (OPEN, '{"request_id": "a\\nb"}', "request_id", "control characters"),
    (REMOVE_PERSONS, '{"id": "1", "request_id": "\\u001b[31m"}', "request_id", "control characters"),
    (OPEN, '{"asked_at": "2026-11-24T08:00:00"}', "asked_at", "an offset"),
    (OPEN, '{"asked_at": "2026-11-24"}', "asked_at", "an offset"),
    (OPEN, '{"asked_at": "2026-02-31T08:00Z"}', "asked_at", "is not a time"),
    (OPEN, '{"asked_at": "1795500000"}', "asked_at", "as a number"),
    (OPEN, '{"asked_at": true}', "asked_at", "an offset"),
    (OPEN, '{"asked_at": -1}', "asked_at", "an offset"),
    (OPEN, '{"asked_at": 1795500000123}', "asked_at", "milliseconds"),
    (OPEN, '{"asked_at": 1e300}', "asked_at", "an offset"),
    (OPEN, '{"askedat": 1}', "askedat", "did you mean 'asked_at'"),
    (GET_PERSONS, '{"asked_at": 1}', "asked_at", "unknown"),
    (FORGET, '{"sn": "T1", "asked_at": 1}', "asked_at", "unknown"),
    (ADMIT, '{"sn": "T1", "username": "a:b", "password": "p"}', "username", "must not contain a colon"),
    (SET_PERSONS, "null", "", "must not be null"),
    (SET_PERSONS, "", "", "must be a person"),
    (SET_PERSONS, "PRESS", "", "not PRESS"),
    (SET_PERSONS, "[]", "", "1 to 10000 persons, not 0"),
    (SET_PERSONS, '{"persons": []}', "persons", "not 0"),
    (SET_PERSONS, '{"persons": {"id": "1"}}', "persons", "not an object"),
    (SET_PERSONS, '{"persons": [1], "person": 1}', "person", "did you mean 'persons'"),
    (REMOVE_PERSONS, "", "", "must be an object"),
    (REMOVE_PERSONS, "[]", "", "must be an object"),
    (REMOVE_PERSONS, "{}", "", "not none"),
    (REMOVE_PERSONS, '{"ids": []}', "ids", "1 to 10000"),
    (REMOVE_PERSONS, '{"ids": null}', "ids", "1 to 10000"),
    (REMOVE_PERSONS, '{"ids": ["1", ""]}', "ids.1", "letters"),
    (REMOVE_PERSONS, '{"ids": ["1", "2]"]}', "ids.1", "letters"),
    (REMOVE_PERSONS, '{"id": 7}', "id", "letters"),
    (REMOVE_PERSONS, '{"id": "1", "all": true, "confirm": "T1"}', "", "not id and all"),
    (REMOVE_PERSONS, '{"all": true}', "confirm", 'needs "confirm": "T1"'),
    (REMOVE_PERSONS, '{"all": true, "confirm": "T2"}', "confirm", 'needs "confirm": "T1"'),
    (REMOVE_PERSONS, '{"all": 1, "confirm": "T1"}', "all", "must be true"),
    (REMOVE_PERSONS, '{"id": "1", "confirm": "T1"}', "confirm", "is allowed only with"),
    (GET_PERSONS, '{"id": "a b"}', "id", "letters"),
    (GET_PERSONS, "PRESS", "", "not PRESS"),
    (SYNC_PERSONS, '{"confirm": "T1"}', "confirm", "is allowed only with"),
    (SYNC_PERSONS, '{"clear": true}', "confirm", 'needs "confirm": "T1"'),
    (SYNC_PERSONS, '{"clear": "yes"}', "clear", "not text"),
    (ADMIT, "", "", "must be an object"),
    (ADMIT, "{}", "sn", "letters"),
    (ADMIT, '{"sn": "a/b"}', "sn", "letters"),
    (ADMIT, '{"sn": "T2", "groups": ["all"]}', "groups.0", "the group of every terminal"),
    (ADMIT, '{"sn": "T2", "groups": "a"}', "groups", "list"),
    (ADMIT, '{"sn": "T2", "name": ""}', "name", "1 to 128"),
    (ADMIT, '{"sn": "T2", "nmae": "Gate"}', "nmae", "did you mean 'name'"),
    (ADMIT, '{"sn": "T2", "name": "a\\u0000b"}', "name", "control characters"),
    (FORGET, '{"sn": null}', "sn", "letters"),
    (OPEN, "[" * 5000, "", "JSON"),
    (OPEN, '{"request_id": NaN}', "", "JSON"),
]


@pytest.mark.parametrize(("definition", "payload", "command"), VALID)
def test_a_valid_payload_becomes_a_command(definition: CommandDefinition, payload: str, command: Command) -> None:
    assert definition.parse(payload.encode(), "T1") == command


@pytest.mark.parametrize(("definition", "payload", "path", "hint"), INVALID)
def test_an_invalid_payload_gets_a_fault_with_the_remedy(
    definition: CommandDefinition, payload: str, path: str, hint: str
) -> None:
    with pytest.raises(InvalidCommandError) as caught:
        definition.parse(payload.encode(), "T1")
    assert [fault.path for fault in caught.value.faults] == [path]
    assert hint in caught.value.faults[0].message


def test_an_invalid_command_keeps_its_request_id() -> None:
    with pytest.raises(InvalidCommandError) as caught:
        REMOVE_PERSONS.parse(b'{"ids": [], "request_id": "r9"}', "T1")
    assert caught.value.request_id == "r9"


def test_a_password_is_never_shown() -> None:
    with pytest.raises(InvalidCommandError) as caught:
        ADMIT.parse(b'{"sn": "T2", "password": "hunter2\\u0001"}', "")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(ADMIT.parse(b'{"sn": "T2", "password": "hunter2"}', ""))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(COMMANDS), st.binary(max_size=200) | JSON.map(lambda value: orjson.dumps(value, default=str)))
def test_any_payload_becomes_a_command_or_its_error(definition: CommandDefinition, payload: bytes) -> None:
    try:
        assert isinstance(definition.parse(payload, "T1"), Command)
    except InvalidCommandError as error:
        assert error.faults  # noqa: PT017  both results are correct


@given(st.binary(max_size=40) | JSON.map(lambda value: orjson.dumps(value, default=str)))
def test_only_the_explicit_form_removes_everyone(payload: bytes) -> None:
    try:
        command = REMOVE_PERSONS.parse(payload, "T1")
    except InvalidCommandError:
        return
    assert isinstance(command, RemovePersons)
    assert command.ids
