"""Named schemas, collected from the schemas that contain them, for the generated documents."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bridge.model.json_schema import JsonSchema

_OF_MAPS = frozenset(("properties", "patternProperties"))
_OF_LISTS = frozenset(("anyOf", "oneOf", "allOf"))
_OF_ONE = frozenset(("items", "additionalProperties", "propertyNames", "not"))
_OF_NONE = frozenset(
    (
        *("title", "description", "default", "examples", "type", "enum", "const", "required", "format", "pattern"),
        *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        "contentMediaType",
    )
)
"""The keywords in use, grouped by what they contain: named schemas, a list of schemas, one schema, or none. Each means
the same in draft-07 and 2020-12."""


class Catalogue:
    """Named schemas, with all schemas that they refer to."""

    def __init__(self, schemas: Iterable[JsonSchema]) -> None:
        """Collect these schemas and the named schemas in them.

        Raises:
            ValueError: two schemas have the same title, a reference has no schema, or a keyword is not in both drafts.
        """
        self._named: dict[str, dict[str, Any]] = {}
        for schema in schemas:
            self._extract(schema)
        for title, schema in self._named.items():
            for referred in _references(schema):
                if referred not in self._named:
                    raise ValueError(f"{title} refers to {referred}, which is not declared")

    def __iter__(self) -> Iterator[str]:
        """Iterate over the titles, sorted."""
        return iter(sorted(self._named))

    def schema(self, title: str, prefix: str) -> dict[str, Any]:
        """Return a schema whose references begin with `prefix`, such as `#/$defs/`."""
        written = _with_prefix(self._named[title], prefix)
        assert isinstance(written, dict)
        return written

    def document(self, title: str) -> dict[str, Any]:
        """Return a schema as a separate document that contains all schemas it refers to."""
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

    def rewritten(self, schema: JsonSchema, prefix: str) -> dict[str, Any]:
        """Return one of the collected schemas with references to its named parts, which begin with `prefix`."""
        written = _with_prefix(self._extract(schema), prefix)
        assert isinstance(written, dict)
        return written

    def _extract(self, schema: JsonSchema) -> dict[str, Any]:
        """Return a schema with references in place of its named parts; for a named schema, a reference to it."""
        if "$ref" in schema:
            return dict(schema)
        extracted: dict[str, Any] = {}
        for keyword, value in schema.items():
            if keyword in _OF_MAPS:
                extracted[keyword] = {name: self._extract(part) for name, part in value.items()}
            elif keyword in _OF_LISTS:
                extracted[keyword] = [self._extract(part) for part in value]
            elif keyword in _OF_ONE:
                extracted[keyword] = self._extract(value) if isinstance(value, Mapping) else value
            elif keyword in _OF_NONE:
                extracted[keyword] = value
            else:
                raise ValueError(f"{keyword!r} is not a keyword that means the same in draft-07 and 2020-12")
        title = extracted.get("title")
        if title is None:
            return extracted
        if self._named.setdefault(title, extracted) != extracted:
            raise ValueError(f"two schemas have the title {title}")
        return {"$ref": title}


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
