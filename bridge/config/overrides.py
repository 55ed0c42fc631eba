"""Keys set from the environment: `FACEBRIDGE_` and the path joined with `__`, as `FACEBRIDGE_MQTT__HOST`."""

from collections.abc import Mapping
from typing import Any

import voluptuous as vol

from bridge.config.checks import Check
from bridge.config.document import DocumentError, parse_document
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

    A key that can be text takes the variable as it is, any other reads it as YAML: `123` is a password and a port.
    An empty variable is null. Keys are found in any case; a name of the user's own (an SN, a token) is taken as one
    that the file has where they differ in case only, else as it stands.

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
        try:
            path, check = _find(variable, value, schema)
            _set(value, path, _read(environment[variable], check))
            set_by[path] = variable
        except (DocumentError, LookupError) as error:
            message = str(error.args[0])
            faults.append(ConfigurationFault(file=variable, line=None, path="", message=message))
    return set_by, faults


def _find(variable: str, value: Any, schema: Section) -> tuple[tuple[str, ...], Check]:
    path: tuple[str, ...] = ()
    parts = variable.removeprefix(PREFIX).split("__")
    level: Any = schema
    while parts:
        part = parts.pop(0)
        if path in _NAMED:
            path = (*path, _own_name(part, _below(value, path)))
            level = _NAMED[path[:-1]]
            continue
        if not isinstance(level, Section):
            raise LookupError(f"{'.'.join(path)} has no keys below it")
        name = part.lower()
        if name not in level.keys:
            raise LookupError(unknown_key(name, level.keys))
        path = (*path, name)
        level = level.keys[name][0]
        level = getattr(level, "inner", level)
    return path, level


def _read(given: str, check: Check) -> Any:
    try:
        check(given)
    except vol.Invalid:
        return parse_document(given, {}).value
    return given


def _own_name(part: str, existing: Any) -> str:
    names = [name for name in existing if isinstance(name, str)] if isinstance(existing, dict) else []
    return next((name for name in names if name == part), None) or next(
        (name for name in names if name.lower() == part.lower()), shorten(part, 64)
    )


def _below(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _set(value: dict[str, Any], path: tuple[str, ...], given: Any) -> None:
    for part in path[:-1]:
        inner = value.get(part)
        if not isinstance(inner, dict):
            inner = value[part] = {}
        value = inner
    value[path[-1]] = given
