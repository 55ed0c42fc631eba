"""Keys set by environment variables: `FACEBRIDGE_` and the path joined with `__`, as `FACEBRIDGE_MQTT__HOST`."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import voluptuous as vol

from bridge.config.checks import Check, Nullable, read_environment_text
from bridge.config.document import KeyPath
from bridge.config.faults import ConfigurationFault
from bridge.config.schema import NamedSections, Section
from bridge.model.faults import shorten, unknown_key

PREFIX = "FACEBRIDGE_"

NOT_KEYS = frozenset({"FACEBRIDGE_CONFIG"})
"""Variables with the prefix that do not set a key."""


def apply_overrides(
    value: dict[str, Any], schema: Section, environment: Mapping[str, str]
) -> tuple[dict[KeyPath, str], list[ConfigurationFault]]:
    """Write the values of environment variables over those of the file.

    Keys are found in any case. A name that the user chooses (an SN, a token) is matched with one in the file in any
    case, or else used as it is; it cannot contain `__`. `read_environment_text` describes how values are read.

    Args:
        value: the file's value; changed in place.
        schema: the schema of the whole configuration.
        environment: the variables of the process.

    Returns:
        The variable of each path that was set, and the faults of the variables themselves.
    """
    set_by: dict[KeyPath, str] = {}
    faults: list[ConfigurationFault] = []
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable in NOT_KEYS:
            continue
        path: KeyPath = ()
        try:
            path, check = _find(variable, value, schema)
            _set(value, path, read_environment_text(environment[variable], check))
            set_by[path] = variable
        except LookupError as error:
            faults.append(ConfigurationFault(file=shorten(variable), line=None, path="", message=str(error.args[0])))
        except vol.Invalid as error:
            faults.append(ConfigurationFault(file=variable, line=None, path=".".join(path), message=error.msg))
    return set_by, faults


def _find(variable: str, value: Any, schema: Section) -> tuple[KeyPath, Check]:
    """Return the path that a variable sets and the check of its value. Raises LookupError."""
    path: KeyPath = ()
    check: Check = schema
    is_below_user_name = False
    for part in variable.removeprefix(PREFIX).split("__"):
        level = check.inner if isinstance(check, Nullable) else check
        if isinstance(level, NamedSections):
            name, check = _matching_name(part, _value_at(value, path)), level.each
            is_below_user_name = True
        elif isinstance(level, Section):
            name = part.lower()
            if name not in level.keys:
                raise LookupError(_unknown(variable, name, level, None if is_below_user_name else schema))
            check, _ = level.keys[name]
        else:
            raise LookupError(f"{'.'.join(path)} has no keys below it")
        path = (*path, name)
    return path, check


def _unknown(variable: str, name: str, level: Section, schema: Section | None) -> str:
    """Return a message with the nearest variable, as `FACEBRIDGE_MQTT__HOST` for `FACEBRIDGE_MQTT_HOST`.

    If there is none, it names the nearest key.
    """
    if schema is not None:
        near = get_close_matches(variable.upper()[:128], _variables(schema, PREFIX), n=1, cutoff=0.8)
        if near:
            return f"sets no key (did you mean {near[0]}?)"
    return unknown_key(name, level.keys)


def _variables(section: Section, above: str) -> Iterator[str]:
    for name, (check, _) in section.keys.items():
        variable = f"{above}{name.upper()}"
        yield variable
        inner = check.inner if isinstance(check, Nullable) else check
        if isinstance(inner, Section):
            yield from _variables(inner, f"{variable}__")


def _matching_name(part: str, existing: Any) -> str:
    names = list(existing) if isinstance(existing, dict) else []
    return part if part in names else next((name for name in names if name.lower() == part.lower()), shorten(part, 64))


def _value_at(value: Any, path: KeyPath) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _set(value: dict[str, Any], path: KeyPath, new: Any) -> None:
    for part in path[:-1]:
        if value.get(part) is None:
            value[part] = {}
        if not isinstance(value[part], dict):
            raise LookupError(f"{part} is not a section in the file")
        value = value[part]
    value[path[-1]] = new
