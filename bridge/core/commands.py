"""The table of commands: name, addressees and payload of each. The adapters derive topics and routes from it."""

from collections.abc import Mapping

from bridge.core.command_definition import NOTHING, PRESS, CommandDefinition, Payload, type_name
from bridge.model.asked_at import ASKED_AT_SCHEMA
from bridge.model.commands import (
    Admit,
    Forget,
    GetPersons,
    Open,
    Reboot,
    RemovePersons,
    SetPersons,
    SyncPersons,
)
from bridge.model.faults import Fault, InvalidError
from bridge.model.json_schema import JsonSchema, choice, described, input_schema, nullable, reference, text
from bridge.model.messages import message
from bridge.model.names import (
    ALL_TERMINALS,
    GROUP_NAME_SCHEMA,
    PERSON_ID_SCHEMA,
    REQUEST_ID_SCHEMA,
    SERIAL_NUMBER_SCHEMA,
    is_group_name,
    is_person_id,
    is_serial_number,
)
from bridge.model.secret import Secret

MAXIMUM_PERSONS = 10_000
"""Persons or ids in one command: all persons of a large building. More is a mistake or an attack."""

MAXIMUM_TEXT_LENGTH = 128
"""Characters of a terminal's name, area, key, username or password."""


def _open(payload: Payload) -> Open:
    payload.mapping()
    return Open(request_id=payload.request_id, asked_at=payload.asked_at)


def _reboot(payload: Payload) -> Reboot:
    payload.mapping()
    return Reboot(request_id=payload.request_id, asked_at=payload.asked_at)


def _set_persons(payload: Payload) -> SetPersons:
    value = payload.value
    persons: object
    if isinstance(value, Mapping) and "persons" in value:
        persons = payload.mapping("persons")["persons"]
        path = "persons"
    elif isinstance(value, Mapping):
        persons = [{key: part for key, part in value.items() if key not in payload.common_keys}]
        path = ""
    else:
        persons = value
        path = ""
    if not isinstance(persons, list):
        raise InvalidError.at(
            path, message("must be a person or a list of persons, not %(persons)s", persons=type_name(persons))
        )
    if not 1 <= len(persons) <= MAXIMUM_PERSONS:
        raise InvalidError.at(
            path,
            message(
                "must hold 1 to %(max_persons)s persons, not %(persons)s",
                max_persons=MAXIMUM_PERSONS,
                persons=len(persons),
            ),
        )
    return SetPersons(persons=persons, request_id=payload.request_id, asked_at=payload.asked_at)


def _remove_persons(payload: Payload) -> RemovePersons:
    value = payload.mapping("id", "ids", "all", "confirm")
    given = [key for key in ("id", "ids", "all") if key in value]
    if len(given) != 1:
        raise InvalidError.at(
            "",
            message(
                'must hold one of "id", "ids" or "all" with "confirm", not %(value)s',
                value=" and ".join(given) or "none",
            ),
        )
    if "all" in value:
        if value["all"] is not True:
            raise InvalidError.at("all", "must be true; leave it out otherwise")
        payload.require_confirmation(value, "removing everyone")
        return RemovePersons(ids=None, request_id=payload.request_id, asked_at=payload.asked_at)
    if "confirm" in value:
        raise InvalidError.at("confirm", 'is allowed only with "all"')
    ids = [value["id"]] if "id" in value else value["ids"]
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAXIMUM_PERSONS:
        raise InvalidError.at("ids", message("must be a list of 1 to %(max_persons)s ids", max_persons=MAXIMUM_PERSONS))
    faults = [
        Fault("id" if "id" in value else f"ids.{index}", _PERSON_ID_RULE)
        for index, person_id in enumerate(ids)
        if not (isinstance(person_id, str) and is_person_id(person_id))
    ]
    if faults:
        raise InvalidError(faults)
    return RemovePersons(ids=tuple(dict.fromkeys(ids)), request_id=payload.request_id, asked_at=payload.asked_at)


_PERSON_ID_RULE = message("must be text of 1 to 64 letters, digits and _ . @ -")
_SERIAL_NUMBER_RULE = message("must be text of 1 to 64 letters, digits, _ and -")


def _get_persons(payload: Payload) -> GetPersons:
    value = payload.mapping("id")
    person_id = value.get("id")
    if person_id is not None and not (isinstance(person_id, str) and is_person_id(person_id)):
        raise InvalidError.at("id", _PERSON_ID_RULE)
    return GetPersons(id=person_id, request_id=payload.request_id)


def _sync_persons(payload: Payload) -> SyncPersons:
    value = payload.mapping("clear", "confirm")
    clear = value.get("clear", False)
    if not isinstance(clear, bool):
        raise InvalidError.at("clear", message("must be true or false, not %(clear)s", clear=type_name(clear)))
    if clear:
        payload.require_confirmation(value, "clearing the terminal")
    elif "confirm" in value:
        raise InvalidError.at("confirm", 'is allowed only with "clear": true')
    return SyncPersons(clear=clear, request_id=payload.request_id, asked_at=payload.asked_at)


def _admit(payload: Payload) -> Admit:
    value = payload.mapping("sn", "name", "area", "groups", "key", "username", "password")
    faults: list[Fault] = []
    changes: dict[str, str | tuple[str, ...] | Secret | None] = {}
    for key, new in value.items():
        if key in ("sn", "request_id"):
            continue
        if key == "groups":
            faults += _check_groups(new)
            if not faults:
                changes[key] = tuple(dict.fromkeys(new or ()))
        elif new is None:
            changes[key] = None
        elif not isinstance(new, str) or not new.strip() or len(new) > MAXIMUM_TEXT_LENGTH:
            faults.append(
                Fault(
                    key,
                    message(
                        "must be text of 1 to %(max_text_length)s characters, or null",
                        max_text_length=MAXIMUM_TEXT_LENGTH,
                    ),
                )
            )
        elif not new.isprintable():
            faults.append(Fault(key, "must not contain control characters"))
        elif key == "username" and ":" in new:
            faults.append(Fault(key, "must not contain a colon: HTTP Basic ends the name there"))
        else:
            changes[key] = Secret(new) if key in ("key", "password") else new
    sn = value.get("sn")
    if not isinstance(sn, str) or not is_serial_number(sn):
        faults.append(Fault("sn", _SERIAL_NUMBER_RULE))
        raise InvalidError(faults)
    if faults:
        raise InvalidError(faults)
    return Admit(sn=sn, changes=changes, request_id=payload.request_id)


def _check_groups(groups: object) -> list[Fault]:
    if groups is None:
        return []
    if not isinstance(groups, list) or len(groups) > MAXIMUM_TEXT_LENGTH:
        return [Fault("groups", "must be a list of group names")]
    faults = []
    for index, name in enumerate(groups):
        if not isinstance(name, str) or not is_group_name(name):
            faults.append(Fault(f"groups.{index}", _SERIAL_NUMBER_RULE))
        elif name == ALL_TERMINALS:
            faults.append(Fault(f"groups.{index}", '"all" is the group of every terminal: leave it out'))
    return faults


def _forget(payload: Payload) -> Forget:
    sn = payload.mapping("sn").get("sn")
    if not isinstance(sn, str) or not is_serial_number(sn):
        raise InvalidError.at("sn", _SERIAL_NUMBER_RULE)
    return Forget(sn=sn, request_id=payload.request_id)


_CONFIRM_SCHEMA = text("must repeat the terminal's SN or the group's name in the topic")

_TEXT_OR_NULL: JsonSchema = {
    "type": ["string", "null"],
    "minLength": 1,
    "maxLength": MAXIMUM_TEXT_LENGTH,
    "pattern": "\\S",
}


def _admit_text(meaning: str) -> JsonSchema:
    return described(_TEXT_OR_NULL, f"{meaning}; printable characters, not only spaces; null for none")


_ONLY_REQUEST_ID = {"request_id": REQUEST_ID_SCHEMA}
_COMMON = {**_ONLY_REQUEST_ID, "asked_at": ASKED_AT_SCHEMA}
"""The keys of every payload of a dated command."""

_AT_ONCE = "Carried out at once, within `commands.deadline` (5 s unless configured), or not at all."

OPEN = CommandDefinition(
    name="open",
    description=f"Opens the door. {_AT_ONCE}",
    topic="open/set",
    payload_schema=input_schema(
        _COMMON,
        title="OpenCommand",
        description="Opens the door; the text `PRESS`, or an empty payload over MQTT 5, does the same.",
        examples=[{"request_id": "r1", "asked_at": "2026-11-24T08:00:00.123+01:00"}],
    ),
    plain=(PRESS, NOTHING),
    build=_open,
    dated=True,
    urgent=True,
    for_terminal=True,
    for_group=True,
)
REBOOT = CommandDefinition(
    name="reboot",
    description=f"Restarts the terminal. {_AT_ONCE}",
    topic="reboot/set",
    payload_schema=input_schema(
        _COMMON,
        title="RebootCommand",
        description="Restarts the terminal; the text `PRESS`, or an empty payload over MQTT 5, does the same.",
        examples=[{"request_id": "r1", "asked_at": "2026-11-24T08:00:00.123+01:00"}],
    ),
    plain=(PRESS, NOTHING),
    build=_reboot,
    dated=True,
    urgent=True,
    for_terminal=True,
    for_group=True,
)
_PERSONS_SCHEMA: JsonSchema = {
    "type": "array",
    "items": reference("Person"),
    "minItems": 1,
    "maxItems": MAXIMUM_PERSONS,
}
SET_PERSONS = CommandDefinition(
    name="setPerson",
    description="Adds or changes persons. Each is checked separately: an invalid one does not hold back the others.",
    topic="person/set",
    payload_schema={
        "title": "SetPersonsCommand",
        "description": "A person, a list of persons, or that list with a `request_id` and `asked_at`.",
        "anyOf": [
            reference("SinglePerson"),
            _PERSONS_SCHEMA,
            input_schema({"persons": _PERSONS_SCHEMA, **_COMMON}, required=["persons"]),
        ],
        "examples": [
            {"id": "1001", "name": "Ada", "photo": "/9j/4AAQSkZJRgABAQ", "request_id": "r3"},
            {"persons": [{"id": "1001", "enabled": False}, {"id": "1002", "pass_count": 3}], "request_id": "r4"},
        ],
    },
    build=_set_persons,
    dated=True,
    for_terminal=True,
    for_group=True,
)
REMOVE_PERSONS = CommandDefinition(
    name="removePerson",
    description="Removes persons, also those that the bridge does not know: the terminal may still hold them.",
    topic="person/remove",
    payload_schema={
        "title": "RemovePersonsCommand",
        "description": "The persons to remove. Only the explicit, confirmed form removes everyone.",
        "oneOf": [
            input_schema({"id": PERSON_ID_SCHEMA, **_COMMON}, required=["id"]),
            input_schema(
                {
                    "ids": {
                        "type": "array",
                        "items": PERSON_ID_SCHEMA,
                        "minItems": 1,
                        "maxItems": MAXIMUM_PERSONS,
                        "description": "one invalid id makes the whole command invalid",
                    },
                    **_COMMON,
                },
                required=["ids"],
            ),
            input_schema(
                {
                    "all": {"const": True, "description": "everyone, also persons that the bridge does not know"},
                    "confirm": _CONFIRM_SCHEMA,
                    **_COMMON,
                },
                required=["all", "confirm"],
            ),
        ],
        "examples": [{"id": "1001"}, {"ids": ["1001", "1002"]}, {"all": True, "confirm": "FEDCBA9876543210"}],
    },
    build=_remove_persons,
    dated=True,
    for_terminal=True,
    for_group=True,
)
GET_PERSONS = CommandDefinition(
    name="getPersons",
    description="Lists the persons that the terminal should hold, without photos. The bridge answers.",
    topic="person/get",
    payload_schema=input_schema(
        {"id": described(nullable(PERSON_ID_SCHEMA), "only this person; null or left out for all"), **_ONLY_REQUEST_ID},
        title="GetPersonsCommand",
        description="Lists the persons that the terminal should hold; an empty payload lists all.",
        examples=[{"id": "1001", "request_id": "r5"}],
    ),
    plain=(NOTHING,),
    build=_get_persons,
    for_terminal=True,
)
SYNC_PERSONS = CommandDefinition(
    name="syncPersons",
    description="Sends everything the terminal should hold again, refused persons included.",
    topic="person/sync",
    payload_schema={
        "title": "SyncPersonsCommand",
        "description": "Sends everything again; `PRESS` or an empty payload does the same.",
        "oneOf": [
            input_schema({"clear": {"const": False}, **_COMMON}),
            input_schema(
                {
                    "clear": {
                        "const": True,
                        "description": "first removes everyone on the terminal; the persons stay stored",
                    },
                    "confirm": _CONFIRM_SCHEMA,
                    **_COMMON,
                },
                required=["clear", "confirm"],
            ),
        ],
        "examples": [{"request_id": "r6"}, {"clear": True, "confirm": "FEDCBA9876543210"}],
    },
    plain=(PRESS, NOTHING),
    build=_sync_persons,
    dated=True,
    for_terminal=True,
    for_group=True,
)
ADMIT = CommandDefinition(
    name="admit",
    description="Approves a terminal, even before it connects, or changes an approved one.",
    topic="admit/set",
    payload_schema=input_schema(
        {
            "sn": SERIAL_NUMBER_SCHEMA,
            "name": _admit_text("its display name"),
            "area": _admit_text("its area, for Home Assistant"),
            "groups": {
                "type": ["array", "null"],
                "items": {**GROUP_NAME_SCHEMA, "not": {"const": ALL_TERMINALS}},
                "maxItems": MAXIMUM_TEXT_LENGTH,
                "description": f"the groups it belongs to; every terminal is in `{ALL_TERMINALS}`",
            },
            "key": _admit_text("the terminal's secret, sent with person changes"),
            "username": {
                **_admit_text("its own user name, if it does not use the common one; no colon; requires `password`"),
                "pattern": "^[^:]*[^:\\s][^:]*$",
            },
            "password": _admit_text("plain text or a hash from `facebridge hash-password`; requires `username`"),
            **_ONLY_REQUEST_ID,
        },
        required=["sn"],
        title="AdmitCommand",
        description="Approves a terminal, or changes the given fields of an approved one; invalid for one that is "
        "listed in the configuration.",
        examples=[{"sn": "FEDCBA9876543210", "name": "Front door", "area": "Lobby", "groups": ["lobby"]}],
    ),
    build=_admit,
    for_bridge=True,
)
FORGET = CommandDefinition(
    name="forget",
    description="Closes a terminal's connection, drops its persons, clears its topics and entities.",
    topic="forget/set",
    payload_schema=input_schema(
        {"sn": SERIAL_NUMBER_SCHEMA, **_ONLY_REQUEST_ID},
        required=["sn"],
        title="ForgetCommand",
        description="Forgets a terminal; invalid for one that is listed in the configuration.",
        examples=[{"sn": "FEDCBA9876543210"}],
    ),
    build=_forget,
    for_bridge=True,
)

COMMANDS = (OPEN, REBOOT, SET_PERSONS, REMOVE_PERSONS, GET_PERSONS, SYNC_PERSONS, ADMIT, FORGET)

COMMAND_NAME_SCHEMA = choice(
    {definition.name: definition.description for definition in COMMANDS},
    title="CommandName",
    description="The command. For an unreadable payload it is the command that the topic names.",
)
"""The schema of a reply's `command`."""
