"""Hypothesis strategies of persons, derived from the table of their fields."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from hypothesis import strategies as st

from bridge.model.faults import InvalidError
from bridge.model.person import WEEKDAYS, Person
from bridge.persons.field_kinds import END_TIME, PERSON_ID, START_TIME, WEEKLY_RULE
from bridge.persons.fields import FIELDS, SHOWN_FIELDS, PersonField
from bridge.persons.schema import merge, parse_person
from bridge.persons.timestamps import LATEST_SECONDS
from tests.support.schema_strategies import Json, valid

PHOTO = "ab" * 32

ODD_IDS = [".", "..", "-", "_", "@", "a@b.c", ".hidden", "0042", "1e5", "true", "id", "x.jpg", "A", "a", "x" * 64]
ODD_TEXTS = [
    "=1+1",
    '"',
    '""',
    ',"',
    "';",
    "a;b c",
    "@x",
    "-",
    "null",
    "true",
    "{}",
    "علی\u200cرضا",
    "王小明",
    "\u200dx",
    "1",
    "🙂",
]
"""Texts that mean something to CSV, JSON or a spreadsheet."""

_TIMES = st.none() | st.integers(0, int(LATEST_SECONDS * 1000)).map(lambda milliseconds: milliseconds / 1000)
_HOURS = st.sampled_from([None, "", "00:00-23:59", "09:00-12:35;13:25-16:25", ["00:00-00:01", "23:58-23:59"]])
_BY_KIND = {
    PERSON_ID: st.sampled_from(ODD_IDS) | st.from_regex(r"[A-Za-z0-9_.@-]{1,64}", fullmatch=True),
    START_TIME: _TIMES,
    END_TIME: _TIMES,
    WEEKLY_RULE: st.none()
    | st.fixed_dictionaries({"default": _HOURS}, optional=dict.fromkeys(WEEKDAYS, _HOURS))
    | st.fixed_dictionaries(dict.fromkeys(WEEKDAYS, _HOURS)),
}
"""Values of kinds whose schema takes much that does not exist, such as the 31st of June."""


def printable(maximum_length: int) -> st.SearchStrategy[str]:
    """Return texts as the bridge stores them: without control characters, and without space around them."""
    characters = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"]) | st.sampled_from(
        ",;\"'= \u200c"
    )
    return st.text(characters, min_size=1, max_size=maximum_length).filter(lambda text: text == text.strip())


def values_of(field: PersonField) -> st.SearchStrategy[Json]:
    """Return values that a user may give a field."""
    strategy = _BY_KIND.get(field.kind)
    if strategy is None:
        strategy = _from_schema(field.kind.input_schema)
    return st.sampled_from(field.examples) | strategy


def _from_schema(schema: Mapping[str, Any]) -> st.SearchStrategy[Json]:
    types = schema.get("type", ())
    if types == "string" or "string" in types:
        texts = st.sampled_from(ODD_TEXTS) | printable(schema.get("maxLength", 20))
        return texts if types == "string" else st.none() | texts
    return valid(schema, _unresolved)


def _unresolved(title: str) -> Mapping[str, Any]:
    raise LookupError(f"{title} is not declared in the schema itself")


CHANGEABLE_FIELDS: Sequence[PersonField] = [one for one in FIELDS if not one.is_photo and one.kind is not PERSON_ID]


def changes() -> st.SearchStrategy[dict[str, Json]]:
    """Return changes of a person as a user gives them, without the id and the photo; several fit together."""
    half = int(LATEST_SECONDS // 2)
    times = {START_TIME: st.integers(0, half), END_TIME: st.integers(half + 1, int(LATEST_SECONDS))}
    values = {
        one.name: st.none() | times[one.kind] if one.kind in times else values_of(one) for one in CHANGEABLE_FIELDS
    }
    return st.fixed_dictionaries({}, optional=values)


@st.composite
def persons(draw: st.DrawFn) -> Person:
    """Return persons; some had a weekly rule before."""
    ids = next(one for one in FIELDS if one.kind is PERSON_ID)
    given = _forwards({one.name: draw(values_of(one)) for one in SHOWN_FIELDS if one is not ids})
    data = {"id": draw(values_of(ids)), **given}
    person = merge(parse_person(data, timezone=UTC), None, PHOTO)
    if draw(st.booleans()):
        first = merge(parse_person({**data, "weekly": {"default": None}}, timezone=UTC), None, PHOTO)
        person = merge(parse_person(data, timezone=UTC), first, None)
    return person


def _forwards(given: dict[str, Json]) -> dict[str, Json]:
    """Return the same with a validity that ends after it starts."""
    try:
        merge(parse_person({"id": "1", "name": "Ada", **given}, timezone=UTC), None, PHOTO)
    except InvalidError:
        start, end = given["valid_from"], given["valid_until"]
        swapped = {**given, "valid_from": end, "valid_until": start}
        return swapped if start != end else {**given, "valid_until": None}
    return given
