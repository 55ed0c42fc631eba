"""Hypothesis strategies for JSON Schemas: valid values, and slightly wrong ones.

For the keywords in use (`tools.catalogue` refuses others); no library does this for 2020-12.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from hypothesis import strategies as st

Json: TypeAlias = Any
Resolve: TypeAlias = Callable[[str], Mapping[str, Any]]

_SMALL = 4
"""Entries of a generated list at most, if its schema allows more."""

_ANYTHING = st.none() | st.booleans() | st.integers(-2, 20_000) | st.floats(allow_nan=False) | st.text(max_size=5)


def valid(schema: Mapping[str, Any], resolve: Resolve) -> st.SearchStrategy[Json]:
    """Return values for a schema. Filter the result if several keywords apply together, as `allOf` and `properties`.

    Args:
        schema: as a catalogue has it.
        resolve: gives the schema of a `$ref`.
    """
    if "$ref" in schema:
        referred = schema["$ref"]
        return st.deferred(lambda: valid(resolve(referred), resolve))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type")
    if kinds is None:
        choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or ()
        return st.one_of([valid(choice, resolve) for choice in choices])
    if isinstance(kinds, str):
        kinds = [kinds]
    return st.one_of([_of_type(kind, schema, resolve) for kind in kinds])


def _of_type(kind: str, schema: Mapping[str, Any], resolve: Resolve) -> st.SearchStrategy[Json]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if kind == "null":
        return st.none()
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(least, most)
    if kind == "number":
        return st.floats(least, most, allow_nan=False, allow_infinity=False) | st.integers(
            None if least is None else int(least), None if most is None else int(most)
        )
    if kind == "string":
        return _texts(schema)
    if kind == "array":
        shortest = schema.get("minItems", 0)
        longest = min(schema.get("maxItems", _SMALL), shortest + _SMALL)
        return st.lists(valid(schema["items"], resolve), min_size=shortest, max_size=longest)
    return _objects(schema, resolve)


def _texts(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
    if "pattern" in schema and schema["pattern"] != r"\S":
        return st.from_regex(schema["pattern"], fullmatch=True, alphabet=st.characters(codec="ascii"))
    made = st.text(min_size=shortest, max_size=min(longest or 20, shortest + 20))
    if longest is not None:
        made |= st.just("x" * longest)
    return made


def _objects(schema: Mapping[str, Any], resolve: Resolve) -> st.SearchStrategy[dict[str, Json]]:
    required = schema.get("required", ())
    parts = {name: valid(part, resolve) for name, part in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: parts[name] for name in required},
        optional={name: part for name, part in parts.items() if name not in required},
    )


@st.composite
def mutated(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> Json:
    """Return one of the values with a part replaced, removed, renamed or added."""
    value = copy.deepcopy(draw(values))
    for _ in range(draw(st.integers(1, 2))):
        value = _mutate(draw, value)
    return value


def _mutate(draw: st.DrawFn, value: Json) -> Json:
    if isinstance(value, dict) and value:
        name = draw(st.sampled_from(sorted(value)))
        match draw(st.sampled_from(("deeper", "replace", "drop", "rename", "add"))):
            case "deeper":
                value[name] = _mutate(draw, value[name])
            case "replace":
                value[name] = draw(_ANYTHING)
            case "drop":
                del value[name]
            case "rename":
                value[draw(st.sampled_from((name.upper(), f"{name}s", "")))] = value.pop(name)
            case _:
                value[draw(st.text(max_size=5))] = draw(_ANYTHING)
        return value
    if isinstance(value, list) and value and draw(st.booleans()):
        position = draw(st.integers(0, len(value) - 1))
        value[position] = _mutate(draw, value[position])
        return value
    if isinstance(value, str) and draw(st.booleans()):
        return value + draw(st.sampled_from(("\n", "/", "é", "x" * 600)))
    return draw(_ANYTHING | st.just([]) | st.just({}) | st.just([value]))
