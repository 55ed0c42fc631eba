"""The Supervisor's rules for an app's files, as far as they concern this app.

Rewritten from the Supervisor's source of 2026.08: supervisor/apps/validate.py, apps/options.py, store/data.py and
utils/apparmor.py.
"""

import re
from collections.abc import Iterator
from typing import Any

KEYS = {
    "name", "version", "slug", "description", "arch", "url", "image", "stage", "homeassistant", "startup", "init",
    "apparmor", "services", "watchdog", "ports", "ports_description", "map", "backup", "backup_pre", "backup_post",
    "backup_exclude", "options", "schema", "ingress", "ingress_port", "ingress_stream", "panel_icon", "panel_title",
}  # fmt: skip
"""The keys that this app uses; the Supervisor silently drops unknown ones."""

PRIVILEGES = {
    "privileged", "full_access", "host_network", "host_pid", "host_ipc", "host_uts", "host_dbus", "docker_api",
    "hassio_api", "homeassistant_api", "auth_api", "devices", "uart", "usb", "gpio", "udev", "kernel_modules",
    "journald", "realtime",
}  # fmt: skip
"""Keys that give an app more privileges than its own container."""

REQUIRED = {"name", "version", "slug", "description", "arch"}
ARCHITECTURES = {"aarch64", "amd64"}
STARTUPS = {"initialize", "system", "services", "application", "once"}
STAGES = {"stable", "experimental", "deprecated"}
MAPPED = {
    "data",
    "ssl",
    "backup",
    "share",
    "media",
    "homeassistant_config",
    "local_apps",
    "all_app_configs",
    "app_config",
}
"""Without the names that are deprecated since 2026.07."""

SLUG = re.compile(r"[-_.A-Za-z0-9]+")
SERVICE = re.compile(r"(mqtt|mysql):(provide|want|need)")
PORT = re.compile(r"[0-9]+(/tcp|/udp)?")
WATCHDOG = re.compile(r"(https?|\[PROTO:\w+\]|tcp)://\[HOST\]:(\[PORT:[0-9]+\]|[0-9]+).*")
IMAGE_PART = re.compile(r"[a-z0-9{][a-z0-9.\-_{}]*")
TYPE = re.compile(
    r"(?:bool|email|url|port|device(?:\(subsystem=[a-z]+\))?|(?:str|password)(?:\(\d*,\d*\))?|int(?:\(-?\d*,-?\d*\))?"
    r"|float(?:\((?:-?\d*\.?\d+)?,(?:-?\d*\.?\d+)?\))?|match\((?P<match>.*)\)|list\((?P<list>.+)\))(?P<optional>\?)?"
)
DEPTH = 2
"""Levels of lists and mappings in options (developers.home-assistant.io; the code itself accepts more)."""


def types(schema: Any, path: tuple[str, ...] = (), depth: int = 0) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Yield the types of a schema: path, type, and number of lists and mappings below the outermost."""
    if isinstance(schema, dict):
        for name, inner in schema.items():
            yield from types(inner, (*path, name), depth + isinstance(inner, dict | list))
    elif isinstance(schema, list):
        assert len(schema) == 1, "a list has exactly one type of items"
        assert not isinstance(schema[0], list), "a list must not contain a list"
        yield from types(schema[0], path, depth + isinstance(schema[0], dict))
    else:
        yield path, schema, depth


def accept(schema: Any, value: Any, path: str = "") -> Any:
    """Return the options as the Supervisor writes them into options.json.

    Raises:
        ValueError: the Supervisor would not start the app with these options.
    """
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{path}: no dict")
        accepted = {name: accept(schema[name], one, f"{path}.{name}") for name, one in value.items() if name in schema}
        for name in schema.keys() - accepted.keys():
            inner = schema[name][0] if isinstance(schema[name], list) else schema[name]
            if not (isinstance(inner, str) and inner.endswith("?")):
                raise ValueError(f"{path}.{name}: missing")
        return accepted
    if isinstance(schema, list):
        if not isinstance(value, list):
            raise ValueError(f"{path}: no list")
        return [accept(schema[0], one, path) for one in value]
    return _accept_one(schema, value, path)


def _accept_one(kind: str, value: Any, path: str) -> Any:
    found = TYPE.fullmatch(kind)
    if found is None or value is None:
        raise ValueError(f"{path}: {kind} does not accept {value!r}")
    if found["match"] is not None:
        if not re.match(found["match"], str(value)):
            raise ValueError(f"{path}: no match")
        return str(value)
    if found["list"] is not None:
        if str(value) not in found["list"].split("|"):
            raise ValueError(f"{path}: none of them")
        return str(value)
    if kind.startswith(("str", "password", "url")) and not isinstance(value, str):
        raise ValueError(f"{path}: no text")
    if kind.startswith("bool") and not isinstance(value, bool):
        raise ValueError(f"{path}: no bool")
    if kind.startswith(("int", "port", "float")):
        number = float(value) if kind.startswith("float") else int(value)
        low, _, high = kind.partition("(")[2].rstrip("?)").partition(",")
        if (low and number < float(low)) or (high and number > float(high)):
            raise ValueError(f"{path}: out of range")
        return number
    return value


def profile_names(apparmor: str) -> list[str]:
    """Return the profiles that the Supervisor finds in an apparmor.txt; it accepts exactly one."""
    return re.findall(r"^profile ([^ ]+).*$", apparmor, re.MULTILINE)
