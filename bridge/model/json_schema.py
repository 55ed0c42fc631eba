"""Building blocks for JSON Schemas, which are declared beside the code that they describe.

Only keywords with the same meaning in draft-07 (which AsyncAPI 3 uses) and 2020-12, so that one schema serves both. A
schema with a `title` becomes a named schema of the documents; one without is written in place.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Self, TypeAlias

JsonSchema: TypeAlias = Mapping[str, Any]


def reference(title: str) -> JsonSchema:
    """Return a reference to a named schema that an outer module declares, so this module cannot import it."""
    return {"$ref": title}


def nullable(schema: JsonSchema) -> JsonSchema:
    """Return the schema that also allows null."""
    if "type" in schema and "title" not in schema and "enum" not in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return {**schema, "type": [*types, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def allows_null(schema: JsonSchema) -> bool:
    """Return whether the schema allows null."""
    types = schema.get("type", [])
    if types == "null" or (isinstance(types, list) and "null" in types):
        return True
    return any(allows_null(choice) for choice in schema.get("anyOf", ()))


def described(schema: JsonSchema, description: str) -> JsonSchema:
    """Return the schema with a description of its meaning in this place."""
    if "title" in schema or "$ref" in schema:
        # Draft-07 ignores keywords beside a reference.
        return {"description": description, "allOf": [schema]}
    return {**schema, "description": description}


def text(description: str, *, longest: int | None = None, shortest: int = 0) -> JsonSchema:
    """Return the schema of text; lengths in characters."""
    return {
        "type": "string",
        "description": description,
        **({"minLength": shortest} if shortest else {}),
        **({"maxLength": longest} if longest is not None else {}),
    }


def count_schema(description: str) -> JsonSchema:
    """Return the schema of a count."""
    return {"type": "integer", "minimum": 0, "description": description}


def choice(meanings: Mapping[str, str], *, title: str, description: str) -> JsonSchema:
    """Return the schema of a word out of several; `meanings` holds the words with their meanings."""
    listed = "\n".join(f"- `{word}`: {meaning}" for word, meaning in meanings.items())
    return {"title": title, "type": "string", "enum": list(meanings), "description": f"{description}\n\n{listed}"}


def input_schema(properties: Mapping[str, JsonSchema], *, required: Sequence[str] = (), **more: Any) -> JsonSchema:
    """Return the schema of an object that the bridge reads. It refuses other keys; `more` are further keywords."""
    return {
        **more,
        "type": "object",
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


def output_schema(properties: Mapping[str, JsonSchema], *, sometimes: Sequence[str] = (), **more: Any) -> JsonSchema:
    """Return the schema of an object that the bridge publishes. It allows other keys: later versions may add some.

    Args:
        properties: the schema of each key.
        sometimes: the keys that may be absent.
        more: further keywords.
    """
    return {
        **more,
        "type": "object",
        "properties": dict(properties),
        "required": [key for key in properties if key not in sometimes],
    }


TIME: JsonSchema = {"type": "string", "format": "date-time", "description": "ISO 8601 with milliseconds and an offset"}


class Vocabulary(StrEnum):
    """A fixed set of published words, each declared with its meaning.

    Attributes:
        meaning: of the word.
    """

    meaning: str

    # Only type checkers need the default: they take a look-up, `Outcome("ok")`, for a call of this method.
    def __new__(cls, word: str, meaning: str = "") -> Self:
        """Create the member that `NAME = "word", "meaning"` declares. Raises TypeError if the meaning is missing."""
        if not meaning:
            raise TypeError(f"{word!r} of {cls.__name__} has no meaning; give one after the word")
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    @classmethod
    def schema(cls, description: str, *, title: str | None = None) -> JsonSchema:
        """Return the schema of these words. Its title is the name of the class, or another one."""
        return choice({word.value: word.meaning for word in cls}, title=title or cls.__name__, description=description)
