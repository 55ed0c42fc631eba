"""A person as users write it: read, then merged into the stored person (docs/mqtt.md, "A person").

The terminals' vendor's field names are accepted, too, and so are the vendor's values for "none": -1, 10000 and
00000000.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Any

from bridge.model.asked_at import ASKED_AT_SCHEMA
from bridge.model.faults import Fault, InvalidError, shorten, unknown_key
from bridge.model.json_schema import TIME, described, input_schema, nullable, output_schema, text
from bridge.model.messages import message
from bridge.model.names import PERSON_ID_SCHEMA, REQUEST_ID_SCHEMA
from bridge.model.person import Person, PhotoReference
from bridge.model.person_entry import DeliveryState, Wanted
from bridge.model.reply import MESSAGE_SCHEMA, STATUS_SCHEMA
from bridge.persons.field_kinds import ID_RULE
from bridge.persons.fields import FIELDS, FIELDS_BY_KEY, SHOWN_FIELDS
from bridge.persons.photos.sources import PhotoSource

MAXIMUM_KEYS = 32
"""Keys of a person that are read: more than there are fields, so that a message can name each misspelt one."""

_MISPLACED = {
    "key": message("belongs to the terminal, not to a person: terminals.known.<SN>.key in the configuration, or admit"),
    "request_id": message('belongs beside "persons", once for all of them'),
    "asked_at": message('belongs beside "persons", once for all of them'),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonPatch:
    """The fields that a user gave; all others stay unchanged.

    Attributes:
        id: the person's id.
        changes: the given attributes of `Person`, without the photo.
        photo_source: the given photo.
    """

    id: str
    changes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    photo_source: PhotoSource | None = None


def parse_person(data: object, *, timezone: tzinfo) -> PersonPatch:
    """Read a person as a user gives it.

    Args:
        data: decoded JSON.
        timezone: of times without an offset.

    Raises:
        InvalidError: with all faults, at paths like `valid_from` and `weekly.Monday`.
    """
    if not isinstance(data, Mapping):
        raise InvalidError.at("", 'must be an object like {"id": "1001", "name": "Ada"}')
    if len(data) > MAXIMUM_KEYS:
        raise InvalidError.at(
            "", message("has %(data)s keys; a person has at most %(fields)s", data=len(data), fields=len(FIELDS))
        )
    faults: list[Fault] = []
    changes: dict[str, Any] = {}
    photos: list[PhotoSource] = []
    given: Mapping[str, object] = data
    for key, value in given.items():
        person_field = FIELDS_BY_KEY.get(key)
        if person_field is None:
            faults.append(Fault(shorten(str(key), 40), _MISPLACED.get(key) or unknown_key(key, FIELDS_BY_KEY)))
        elif person_field.name != key and person_field.name in data:
            faults.append(
                Fault(key, message("is the same as %(name)s; give one of them", name=repr(person_field.name)))
            )
        elif value is None and person_field.kind.accepts_null:
            changes[person_field.name] = person_field.default
        else:
            try:
                parsed = person_field.kind.parse(value, timezone)
            except InvalidError as error:
                faults += (fault.below(key) for fault in error.faults)
                continue
            if person_field.is_photo:
                photos.append(parsed)
            else:
                changes[person_field.name] = parsed
    if "id" not in data:
        faults.append(Fault("id", message("is missing; %(id_rule)s", id_rule=ID_RULE)))
    if "photo" in data and "photo_file" in data:
        faults.append(Fault("photo_file", "is a photo, too; give 'photo' or 'photo_file'"))
    if faults:
        raise InvalidError(faults)
    return PersonPatch(id=changes.pop("id"), changes=changes, photo_source=photos[0] if photos else None)


def merge(patch: PersonPatch, stored: Person | None, photo: PhotoReference | None) -> Person:
    """Return the person with the given fields changed.

    Args:
        patch: the given fields.
        stored: the person so far; None for a new one.
        photo: the patch's photo, prepared; None if the patch has none.

    Raises:
        InvalidError: a new person lacks its name or photo, or the validity ends before it starts.
    """
    changes = dict(patch.changes)
    if photo is not None:
        changes["photo"] = photo
    if stored is None:
        person = _new_person(patch.id, changes)
    else:
        person = replace(stored, **changes)
        had_rule = stored.weekly is not None or stored.weekly_taken_back
        person = replace(person, weekly_taken_back=had_rule and person.weekly is None)
    if person.valid_from is not None and person.valid_until is not None and person.valid_from >= person.valid_until:
        given = "valid_until" if "valid_until" in changes else "valid_from"
        raise InvalidError.at(given, "valid_until must be later than valid_from")
    return person


def replacing(person: Person, stored: Person | None) -> Person:
    """Return a person as they must be stored in place of another state of the same person.

    Args:
        person: the person with all values.
        stored: the person so far on the terminal; None for none.
    """
    had_rule = stored is not None and (stored.weekly is not None or stored.weekly_taken_back)
    return replace(person, weekly_taken_back=person.weekly is None and (had_rule or person.weekly_taken_back))


def added_again(person: Person) -> Person:
    """Return a new person as it must be stored for a terminal that has not confirmed an earlier removal.

    The terminal may still hold the person with a weekly rule. The protocol does not say that a frame without a rule
    clears it.
    """
    return replace(person, weekly_taken_back=person.weekly is None)


def _new_person(person_id: str, changes: Mapping[str, Any]) -> Person:
    faults = []
    if "name" not in changes:
        faults.append(Fault("name", "is missing: a new person needs a name"))
    if "photo" not in changes:
        faults.append(Fault("photo", "is missing: a new person needs a photo, as 'photo' or 'photo_file'"))
    if faults:
        raise InvalidError(faults)
    return Person(id=person_id, **changes)


_PROPERTIES = {
    **{one.name: one.input_schema for one in FIELDS},
    **{
        one.vendor_name: described(one.kind.input_schema, f"the vendor's name of `{one.name}`")
        for one in FIELDS
        if one.vendor_name is not None
    },
}
_SAME = [(one.vendor_name, one.name) for one in FIELDS if one.vendor_name is not None]
_AT_MOST_ONE_OF = [{"not": {"required": list(pair)}} for pair in (*_SAME, ("photo", "photo_file"))]

PERSON_SCHEMA = input_schema(
    _PROPERTIES,
    required=["id"],
    title="Person",
    description="A person as users write it. A new person needs `name` and a photo; of a known person, absent fields "
    "stay unchanged. No field may be given under two names.",
    allOf=_AT_MOST_ONE_OF,
    examples=[
        {
            "id": "1001",
            "name": "Ada",
            "photo_file": "ada.jpg",
            "valid_until": "2027-01-31",
            "weekly": {"default": "08:00-18:00", "Saturday": None, "Sunday": None},
        }
    ],
)
"""The schema of what `parse_person` reads."""

SINGLE_PERSON_SCHEMA = input_schema(
    {**_PROPERTIES, "request_id": REQUEST_ID_SCHEMA, "asked_at": ASKED_AT_SCHEMA},
    required=["id"],
    title="SinglePerson",
    description="A person, with the command's `request_id` and `asked_at` beside its fields.",
    allOf=_AT_MOST_ONE_OF,
)
"""The schema of a person that is a whole command."""

PERSON_ENTRY_SCHEMA = output_schema(
    {
        **{one.name: one.output_schema for one in SHOWN_FIELDS},
        "id": described(
            nullable(PERSON_ID_SCHEMA), "null: the removal of everyone, including persons that the bridge does not know"
        ),
        "wanted": Wanted.schema("What the terminal should do with the person.", title="Wanted"),
        "delivery": DeliveryState.schema("The state of the last change of the person.", title="Delivery"),
        "status": STATUS_SCHEMA,
        "message": MESSAGE_SCHEMA,
        "changed_at": described(TIME, "when the change was requested, or last answered"),
        "access": {
            "type": "array",
            "items": text("`terminal`: the terminal's own changes; else the name of a group"),
            "description": "through what the terminal holds the person; empty for a removal",
        },
    },
    title="PersonEntry",
    sometimes=[one.name for one in SHOWN_FIELDS if one.name != "id"],
    description="A person that a terminal should hold, or a removal that it has not confirmed, and the state of the "
    "delivery. Photos are not shown. A removal has no fields of the person but the id.",
)
"""The schema of `PersonEntry.as_json`."""
