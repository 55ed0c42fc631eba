"""Every schema that has a name, gathered from where it is declared."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bridge.core.commands import COMMAND_NAME_SCHEMA, COMMANDS
from bridge.model.json_schema import JsonSchema
from bridge.mqtt.topics import PUBLICATIONS
from bridge.persons.schema import PERSON_ENTRY_SCHEMA, PERSON_SCHEMA, SINGLE_PERSON_SCHEMA

_OF_MAPS = frozenset(("properties", "patternProperties"))
_OF_LISTS = frozenset(("anyOf", "oneOf", "allOf"))
_OF_ONE = frozenset(("items", "additionalProperties", "propertyNames", "not"))
_OF_NONE = frozenset(
    (
        *("title", "description", "examples", "type", "enum", "const", "required", "format", "pattern"),
        *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        "contentMediaType",
    )
)
"""The keywords in use: those on which draft-07 and 2020-12 agree. What each holds: schemas by name, in a list, one, or
none."""


class Catalogue:
    """Named schemas; what each refers to is in it, too."""

    def __init__(self, schemas: Iterable[JsonSchema]) -> None:
        """Gather what these schemas hold.

        Raises:
            ValueError: two differ under one title, a reference leads nowhere, or a keyword is not for both drafts.
        """
        self._named: dict[str, dict[str, Any]] = {}
        for schema in schemas:
            self._take_out(schema)
        for title, schema in self._named.items():
            for referred in _references(schema):
                if referred not in self._named:
                    raise ValueError(f"{title} refers to {referred}, which is declared nowhere")

    def __iter__(self) -> Iterator[str]:
        """Go through the titles, sorted."""
        return iter(sorted(self._named))

    def schema(self, title: str, prefix: str) -> dict[str, Any]:
        """Return a schema whose references begin with `prefix`, as `#/$defs/`."""
        written = _with_prefix(self._named[title], prefix)
        assert isinstance(written, dict)
        return written

    def document(self, title: str) -> dict[str, Any]:
        """Return a schema as a document of its own, with all that it refers to inside."""
        needed: set[str] = set()
        unseen = [title]
        while unseen:
            new = set(_references(self._named[unseen.pop()])) - needed
            needed |= new
            unseen += new
        prefix = "#/$defs/"
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:facebridge:schema:{title}",
            **self.schema(title, prefix),
            **({"$defs": {name: self.schema(name, prefix) for name in sorted(needed)}} if needed else {}),
        }

    def _take_out(self, schema: JsonSchema) -> dict[str, Any]:
        """Return a schema with a reference in place of each named part; where it is named itself, a reference."""
        if "$ref" in schema:
            return dict(schema)
        input_schema: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword in _OF_MAPS:
                input_schema[keyword] = {name: self._take_out(part) for name, part in value.items()}
            elif keyword in _OF_LISTS:
                input_schema[keyword] = [self._take_out(part) for part in value]
            elif keyword in _OF_ONE:
                input_schema[keyword] = self._take_out(value) if isinstance(value, Mapping) else value
            elif keyword in _OF_NONE:
                input_schema[keyword] = value
            else:
                raise ValueError(f"{keyword!r} is not among the keywords that mean the same to draft-07 and 2020-12")
        title = input_schema.get("title")
        if title is None:
            return input_schema
        if self._named.setdefault(title, input_schema) != input_schema:
            raise ValueError(f"two schemas are called {title}")
        return {"$ref": title}


def catalogue() -> Catalogue:
    """Return every schema of the contract."""
    return Catalogue(
        (
            PERSON_SCHEMA,
            SINGLE_PERSON_SCHEMA,
            PERSON_ENTRY_SCHEMA,
            COMMAND_NAME_SCHEMA,
            *(definition.payload_schema for definition in COMMANDS),
            *(payload for publication in PUBLICATIONS for payload in publication.payloads),
        )
    )


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def _with_prefix(value: object, prefix: str) -> object:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            return {"$ref": prefix + value["$ref"]}
        return {name: _with_prefix(part, prefix) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_prefix(part, prefix) for part in value]
    return value
