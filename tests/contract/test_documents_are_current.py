"""The generated documents are current, complete and valid."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from bridge.core.commands import COMMANDS
from bridge.model.events import PUBLIC_EVENTS, Event, PublicEvent
from bridge.model.json_schema import Vocabulary, reference
from bridge.model.reply import Outcome
from bridge.model.schema_catalogue import Catalogue
from bridge.mqtt.topics import PUBLISHED_TOPICS, Topics
from bridge.persons.fields import FIELDS_BY_KEY
from tests.support.contract import validator
from tools.asyncapi import asyncapi_document
from tools.catalogue import catalogue
from tools.describe import PAGE_WITH_PERSON_FIELDS, documents, main, with_person_fields, write_documents

DOCS = Path(__file__).parents[2] / "docs"
SCHEMAS = {name: text for name, text in documents().items() if name.startswith("schemas/")}
DOCUMENT = asyncapi_document(catalogue())


@pytest.mark.parametrize("name", documents())
def test_the_generated_documents_are_current(name: str) -> None:
    assert (DOCS / name).read_text() == documents()[name], "run scripts/describe"


def test_the_table_of_a_persons_fields_is_current() -> None:
    page = (DOCS / PAGE_WITH_PERSON_FIELDS).read_text()
    assert page == with_person_fields(page), "run scripts/describe"


@pytest.mark.parametrize("page", ["", "{table}{table}"])
def test_a_page_has_one_place_for_the_table(page: str) -> None:
    table = "<!-- scripts/describe writes this table from bridge/persons/fields.py -->\n\n\n<!-- end of the table -->\n"
    with pytest.raises(ValueError, match="places are marked"):
        with_person_fields(page.format(table=table))
    assert "| `valid_until` | `endTs` |" in with_person_fields(table)


def test_no_schema_is_left_over() -> None:
    assert {f"schemas/{path.name}" for path in (DOCS / "schemas").iterdir()} == set(SCHEMAS)


def test_the_generator_writes_all_and_deletes_old_schemas(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "old.json").write_text("{}")
    assert main.main([str(tmp_path)], standalone_mode=False) is None
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.*")}
    assert written == documents()
    page = (DOCS / PAGE_WITH_PERSON_FIELDS).read_text()
    (tmp_path / PAGE_WITH_PERSON_FIELDS).write_text(page.replace("| `card` |", "| `cards` |"))
    write_documents(tmp_path)
    assert (tmp_path / PAGE_WITH_PERSON_FIELDS).read_text() == page


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_valid_in_both_drafts_and_needs_no_other_file(name: str) -> None:
    schema = json.loads(SCHEMAS[name])
    Draft202012Validator.check_schema(schema)
    Draft7Validator.check_schema(schema)
    for referred in references(schema):
        assert referred.startswith("#/$defs/")
        assert referred.removeprefix("#/$defs/") in schema["$defs"]


def test_each_reference_of_the_asyncapi_document_has_a_target_in_it() -> None:
    for referred in references(DOCUMENT):
        place: Any = DOCUMENT
        for step in referred.removeprefix("#/").split("/"):
            place = place[step]


@pytest.mark.parametrize("title", list(catalogue()))
def test_each_example_is_valid(title: str) -> None:
    for example in catalogue().schema(title, "").get("examples", ()):
        validator(title).validate(example)


def test_every_command_topic_and_event_is_in_the_asyncapi_document() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    topics = Topics("{base}")
    filters = {*topics.urgent_commands, *topics.lasting_commands}
    shown = {address.replace("{sn}", "+").replace("{group}", "+") for address in addresses if address is not None}
    assert filters < shown
    assert len(shown) == len(filters) + len(PUBLISHED_TOPICS)
    received = [one for one in DOCUMENT["operations"].values() if one["action"] == "receive"]
    assert len(received) == len(filters)
    assert all("reply" in one for one in received)
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Outcome"]["enum"] == [outcome.value for outcome in Outcome]
    assert schemas["CommandName"]["enum"] == [definition.name for definition in COMMANDS]
    assert set(schemas["Person"]["properties"]) == set(FIELDS_BY_KEY)


def test_every_public_event_is_published() -> None:
    def below(kind: type[Event]) -> set[type[Event]]:
        return {kind, *(deeper for one in kind.__subclasses__() for deeper in below(one))}

    # `dataclass(slots=True)` creates a second class; the first one is still among the subclasses.
    declared = {one.__name__ for one in below(PublicEvent)} - {"PublicEvent"}
    assert {one.__name__ for one in PUBLIC_EVENTS} == declared


def test_each_published_word_needs_a_meaning() -> None:
    with pytest.raises(TypeError, match="has no meaning"):

        class Answer(Vocabulary):
            YES = "yes"


@pytest.mark.parametrize(
    ("schemas", "said"),
    [
        ([{"title": "A", "type": "string"}, {"title": "A", "type": "null"}], "two schemas"),
        ([{"title": "A", "items": reference("B")}], "is not declared"),
        ([{"title": "A", "unevaluatedProperties": False}], "draft-07"),
    ],
)
def test_the_catalogue_refuses_wrong_schemas(schemas: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Catalogue(schemas)


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [one for part in value.values() for one in references(part)]
    if isinstance(value, list):
        return [one for part in value for one in references(part)]
    return []
