"""Keys set from the environment: `FACEBRIDGE_` and the path joined with `__`, as `FACEBRIDGE_MQTT__HOST`."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import voluptuous as vol

from bridge.config.checks import Check, read_environment_text
from bridge.config.faults import ConfigurationFault
from bridge.config.schema import KNOWN_TERMINAL, TOKEN, Section
from bridge.model.faults import shorten, unknown_key

PREFIX = "FACEBRIDGE_"
RESERVED = frozenset({"FACEBRIDGE_CONFIG"})
"""Variables of that prefix that are no keys."""

_NAMED = {("terminals", "known"): KNOWN_TERMINAL, ("web", "tokens"): TOKEN}
"""Where the next part of a path is a name of the user's own."""


def apply_overrides(
    value: dict[str, Any], schema: Section, environment: Mapping[str, str]
) -> tuple[dict[tuple[str, ...], str], list[ConfigurationFault]]:
    """Write the environment's values over those of the file.

    What a variable says is read as `read_environment_text` describes. Keys are found in any case; a name of the user's
    own (an SN, a token) is taken as one that the file has where they differ in case only, else as it stands, and it can
    hold no `__`.

    Args:
        value: the file's; changed in place.
        schema: the whole schema.
        environment: of the process.

    Returns:
        The variable behind each path that was set, and what is wrong with the variables themselves.
    """
    set_by: dict[tuple[str, ...], str] = {}
    faults: list[ConfigurationFault] = []
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable in RESERVED:
            continue
        path: tuple[str, ...] = ()
        try:
            path, check = _find(variable, value, schema)
            _set(value, path, read_environment_text(environment[variable], check))
            set_by[path] = variable
        except LookupError as error:
            faults.append(ConfigurationFault(file=shorten(variable), line=None, path="", message=str(error.args[0])))
        except vol.Invalid as error:
            faults.append(ConfigurationFault(file=variable, line=None, path=".".join(path), message=error.msg))
    return set_by, faults


def _find(variable: str, value: Any, schema: Section) -> tuple[tuple[str, ...], Check]:
    path: tuple[str, ...] = ()
    check: Check = schema
    for part in variable.removeprefix(PREFIX).split("__"):
        if path in _NAMED:
            check = _NAMED[path]
            path = (*path, _own_name(part, _below(value, path)))
            continue
        level = getattr(check, "inner", check)
        if not isinstance(level, Section):
            raise LookupError(f"{'.'.join(path)} has no keys below it")
        name = part.lower()
        if name not in level.keys:
            raise LookupError(_unknown(variable, name, path, schema, level))
        check, _ = level.keys[name]
        path = (*path, name)
    return path, check


def _unknown(variable: str, name: str, path: tuple[str, ...], schema: Section, level: Section) -> str:
    """Name the nearest variable, for `FACEBRIDGE_MQTT_HOST` is nearer to one than to a key."""
    if path[:2] not in _NAMED:
        near = get_close_matches(variable.upper()[:128], _variables(schema, PREFIX), n=1, cutoff=0.8)
        if near:
            return f"sets no key (did you mean {near[0]}?)"
    return unknown_key(name, level.keys)


def _variables(section: Section, above: str) -> Iterator[str]:
    for name, (check, _) in section.keys.items():
        variable = f"{above}{name.upper()}"
        yield variable
        inner = getattr(check, "inner", check)
        if isinstance(inner, Section):
            yield from _variables(inner, f"{variable}__")


def _own_name(part: str, existing: Any) -> str:
    names = list(existing) if isinstance(existing, dict) else []
    return part if part in names else next((name for name in names if name.lower() == part.lower()), shorten(part, 64))


def _below(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _set(value: dict[str, Any], path: tuple[str, ...], given: Any) -> None:
    for part in path[:-1]:
        if value.get(part) is None:
            value[part] = {}
        if not isinstance(value[part], dict):
            raise LookupError(f"{part} holds no keys in the file")
        value = value[part]
    value[path[-1]] = given
