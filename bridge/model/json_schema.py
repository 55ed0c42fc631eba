"""JSON Schemas, written beside what they describe.

Only keywords on which draft-07 (what AsyncAPI 3 takes) and 2020-12 agree, so one description serves both. A schema with
a `title` gets a name of its own in the documents; parts that have not are written where they stand.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Self, TypeAlias

JsonSchema: TypeAlias = Mapping[str, Any]


def reference(title: str) -> JsonSchema:
    """Return what stands for a schema that is declared further out, where it cannot be imported from."""
    return {"$ref": title}


def nullable(schema: JsonSchema) -> JsonSchema:
    """Return the schema that allows null too."""
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
    """Return the schema with a description of what it means in this place."""
    if "title" in schema or "$ref" in schema:
        # What stands beside a reference counts for nothing in draft-07.
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


def number_of(what: str) -> JsonSchema:
    """Return the schema of a count."""
    return {"type": "integer", "minimum": 0, "description": what}


def choice(meanings: Mapping[str, str], *, title: str, description: str) -> JsonSchema:
    """Return the schema of one of several words, given with their meanings."""
    listed = "\n".join(f"- `{word}`: {meaning}" for word, meaning in meanings.items())
    return {"title": title, "type": "string", "enum": list(meanings), "description": f"{description}\n\n{listed}"}


def input_schema(properties: Mapping[str, JsonSchema], *, required: Sequence[str] = (), **more: Any) -> JsonSchema:
    """Return the schema of an object the bridge reads, which refuses every other key; `more` are further keywords."""
    return {
        **more,
        "type": "object",
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


def output_schema(properties: Mapping[str, JsonSchema], *, sometimes: Sequence[str] = (), **more: Any) -> JsonSchema:
    """Return the schema of an object the bridge publishes; a later version may tell more, so readers take other keys.

    Args:
        properties: what it holds.
        sometimes: those of them that may be absent.
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
    """Words that are published, each declared with its meaning.

    Attributes:
        meaning: what the word says.
    """

    meaning: str

    # The default is for the eyes of type checkers, which take a look-up, `Outcome("ok")`, for a call of this.
    def __new__(cls, word: str, meaning: str = "") -> Self:
        """Make a member of `NAME = "word", "meaning"`; raise TypeError for one without a meaning."""
        if not meaning:
            raise TypeError(f"{word!r} of {cls.__name__} has no meaning: it could not be described")
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    @classmethod
    def schema(cls, description: str, *, title: str | None = None) -> JsonSchema:
        """Return the schema of one of these words, under the name of the class or another title."""
        return choice({word.value: word.meaning for word in cls}, title=title or cls.__name__, description=description)
