"""The fields of a person: one entry for each.

From this table the bridge derives what users may give and how it is read (`bridge.persons.schema`), the JSON Schemas
and the AsyncAPI document, the columns of CSV files (`bridge.import_export`), the table in docs/mqtt.md, and the values
that tests try. `bridge.model.person.Person` holds the values and stores them.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

from bridge.model.json_schema import JsonSchema, described
from bridge.model.person import Person
from bridge.persons.field_kinds import (
    BOOLEAN,
    CARD_NUMBER,
    END_TIME,
    INLINE_PHOTO,
    NAME,
    OPTIONAL_BOOLEAN,
    PASS_COUNT,
    PERSON_ID,
    PHOTO_PATH,
    START_TIME,
    WEEKLY_RULE,
    FieldKind,
)
from bridge.protocol.requests import NO_NUMBER, UNLIMITED_PASSES

_DEFAULTS: Mapping[str, Any] = {one.name: one.default for one in dataclass_fields(Person)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonField:
    """One field of a person, as users write it.

    Attributes:
        name: the field's name; also that of the attribute of `Person`, unless the field gives the photo.
        vendor_name: the terminals' vendor's name of the field, if it differs; users may use it instead.
        kind: how its values are read, written and described.
        meaning: what the field says about the person.
        rule: what a user has to know to write it; schemas and documents show it after the meaning.
        examples: values that a user may give, at least one.
    """

    name: str
    kind: FieldKind
    meaning: str
    rule: str = ""
    examples: tuple[Any, ...]
    vendor_name: str | None = None

    @property
    def is_photo(self) -> bool:
        """Whether the field gives the person's photo, which is prepared before `Person` refers to it."""
        return self.kind.output_schema is None

    @property
    def default(self) -> Any:
        """What a new person has if the field is absent, and every person if it is null. Raises LookupError for none."""
        default = _DEFAULTS[self.name]
        if default is MISSING:
            raise LookupError(f"{self.name} has no default")
        return default

    @property
    def description(self) -> str:
        """The meaning and the rule."""
        return f"{self.meaning}; {self.rule}" if self.rule else self.meaning

    @property
    def input_schema(self) -> JsonSchema:
        """The schema of what a user may give."""
        return described(self.kind.input_schema, self.description)

    @property
    def output_schema(self) -> JsonSchema:
        """The schema of what a reply shows. Raises LookupError if replies do not show the field."""
        if self.kind.output_schema is None:
            raise LookupError(f"{self.name} is not shown")
        return described(self.kind.output_schema, self.meaning)


FIELDS = (
    PersonField(
        name="id",
        kind=PERSON_ID,
        meaning="the person's id, unique on a terminal",
        rule="required; 1 to 64 letters, digits and `_ . @ -`; the vendor shows only digits without leading zeros",
        examples=("1001", "a.lovelace@example"),
    ),
    PersonField(
        name="name",
        kind=NAME,
        meaning="the name that the terminal shows",
        rule="required for a new person; without control characters",
        examples=("Ada Lovelace",),
    ),
    PersonField(
        name="card",
        vendor_name="IC_NO",
        kind=CARD_NUMBER,
        meaning="card number, sent to the gate as a Wiegand number",
        rule=f"text, because leading zeros count; null, empty and `{NO_NUMBER}` mean none",
        examples=("0042", None),
    ),
    PersonField(
        name="id_number",
        vendor_name="ID_NO",
        kind=CARD_NUMBER,
        meaning="identity-card number",
        rule=f"text, because leading zeros count; null, empty and `{NO_NUMBER}` mean none",
        examples=("110101199003070000", None),
    ),
    PersonField(
        name="photo",
        kind=INLINE_PHOTO,
        meaning="the photo, as base64 or a data URI",
        rule="JPEG, PNG, WebP, or HEIC if pillow-heif is installed; at least 32 pixels on each side; a new person "
        "needs it or `photo_file`",
        examples=("/9j/4AAQSkZJRg==",),
    ),
    PersonField(
        name="photo_file",
        kind=PHOTO_PATH,
        meaning="the path of the photo inside one of `photos.folders`",
        rule="instead of `photo`",
        examples=("ada.jpg",),
    ),
    PersonField(
        name="valid_from",
        vendor_name="startTs",
        kind=START_TIME,
        meaning="the person may pass from this time on; null means no limit",
        rule="ISO 8601, local time of the bridge if it has no offset, or seconds since 1970; a date alone means its "
        "start; earlier than `valid_until`",
        examples=("2026-11-24T08:00+01:00", "2026-11-24", 1795500000, None),
    ),
    PersonField(
        name="valid_until",
        vendor_name="endTs",
        kind=END_TIME,
        meaning="the person may pass until this time; null means no limit",
        rule="as `valid_from`, but a date alone means its end; later than `valid_from`",
        examples=("2027-01-31", "2027-01-31T18:00", 1801414800, None),
    ),
    PersonField(
        name="pass_count",
        vendor_name="passCount",
        kind=PASS_COUNT,
        meaning="how often the person may pass within that time; null means no limit",
        rule=f"0 to {UNLIMITED_PASSES - 1}; {UNLIMITED_PASSES} means no limit, too",
        examples=(3, None),
    ),
    PersonField(
        name="visitor",
        kind=OPTIONAL_BOOLEAN,
        meaning="whether the person is a visitor",
        rule="null means false",
        examples=(True, False, None),
    ),
    PersonField(
        name="weekly",
        kind=WEEKLY_RULE,
        meaning="the hours of each weekday in which the person may pass; null means no rule",
        rule="ranges joined with `;`, a list of ranges, or null for a day without; all seven days, or `default` for "
        "the others; the vendor writes it as the text of this JSON",
        examples=({"default": "09:00-12:35;13:25-16:25", "Saturday": ["10:00-12:00"], "Sunday": None}, None),
    ),
    PersonField(
        name="enabled",
        kind=BOOLEAN,
        meaning="false keeps the person and the photo in the bridge, but removes the person from the terminal",
        # `null` must not re-enable a disabled person.
        rule="not null",
        examples=(True, False),
    ),
)
"""The fields, in the order of messages, documents and CSV columns."""

FIELDS_BY_KEY: Mapping[str, PersonField] = {
    **{one.name: one for one in FIELDS},
    **{one.vendor_name: one for one in FIELDS if one.vendor_name is not None},
}
"""The fields by every name that users may give them."""

SHOWN_FIELDS = tuple(one for one in FIELDS if not one.is_photo)
"""The fields that replies and exports show."""
