"""From `config.yaml` and the environment to `Settings`, or to everything that is wrong with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import voluptuous as vol

from bridge.config.checks import EnvironmentText
from bridge.config.document import Document, DocumentError, read_document
from bridge.config.faults import ConfigurationError, ConfigurationFault
from bridge.config.overrides import apply_overrides
from bridge.config.schema import KNOWN_TERMINAL, TOKEN, Section, configuration_schema
from bridge.config.settings import (
    AuditSettings,
    CommandSettings,
    HomeAssistantSettings,
    LoggingSettings,
    MqttSettings,
    MqttTlsSettings,
    PersonsSettings,
    PhotoSettings,
    ServerTlsSettings,
    Settings,
    StoreSettings,
    TerminalsSettings,
    TokenSettings,
    WebSettings,
)
from bridge.model.faults import shorten, unknown_key
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin

SECRETS_FILE = "secrets.yaml"
"""Where `!secret` looks, beside the configuration."""


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """Read, check and complete a configuration.

    Args:
        file: the configuration; relative paths in it start at its folder.
        environment: for `!env_var` and overrides.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    folder = file.absolute().parent
    tags = {
        "!secret": _SecretsFile(folder / SECRETS_FILE).read,
        "!env_var": lambda text: _environment_variable(text, environment),
    }
    try:
        document = read_document(file, tags)
    except DocumentError as error:
        raise ConfigurationError([_fault(file, error.line, (), str(error))]) from None
    value = {} if document.value is None else document.value
    if not isinstance(value, dict):
        raise ConfigurationError([_fault(file, 1, (), "must hold keys like mqtt and terminals, one a line")])
    schema = configuration_schema(folder)
    set_by, faults = apply_overrides(value, schema, environment)
    where = _Where(file, document, set_by)
    faults += [
        _fault(file, line, path, message)
        for path, line, message in document.faults
        # A variable in place of `!secret name` does without the secret.
        if not where.is_overridden(path)
    ]
    try:
        checked = schema(value)
    except vol.MultipleInvalid as several:
        raise ConfigurationError(faults + [where.fault(one, schema) for one in several.errors]) from None
    if faults:
        raise ConfigurationError(faults)
    return _settings(checked, folder)


class _SecretsFile:
    """Reads `secrets.yaml` when the first `!secret` asks for it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._secrets: dict[str, Any] | None = None

    def read(self, name: str) -> object:
        if not name:
            raise ValueError(f"!secret takes the name of a line in {SECRETS_FILE}")
        if self._secrets is None:
            self._secrets = self._read_file(name)
        shown = shorten(name, 64)
        if name not in self._secrets:
            raise ValueError(f'{SECRETS_FILE} has no {shown!r}: add a line `{shown}: "…"`')
        if not isinstance(self._secrets[name], str):
            raise ValueError(f"{SECRETS_FILE}: {shown} must be text: put it in quotes")
        return self._secrets[name]

    def _read_file(self, name: str) -> dict[str, Any]:
        shown = shorten(name, 64)
        if not self._file.exists():
            raise ValueError(f'there is no {SECRETS_FILE}: make it beside this file, with a line `{shown}: "…"`')
        try:
            document = read_document(self._file, {})
        except DocumentError as error:
            where = f"{SECRETS_FILE}:{error.line}" if error.line else SECRETS_FILE
            raise ValueError(f"!secret {shown} needs {where}: {error}") from None
        if document.faults:
            path, line, message = document.faults[0]
            fault = ConfigurationFault(file=SECRETS_FILE, line=line, path=".".join(path), message=message)
            raise ValueError(f"!secret {shown} needs {fault}")
        if not isinstance(document.value, dict):
            raise ValueError(f"{SECRETS_FILE} must hold lines of `name: value`")
        return document.value


def _environment_variable(text: str, environment: Mapping[str, str]) -> EnvironmentText:
    name, _, default = text.partition(" ")
    if not name:
        raise ValueError("!env_var takes the name of a variable, and a default where there is one")
    if name in environment:
        return EnvironmentText(environment[name])
    if not default:
        raise ValueError(f"the environment has no {shorten(name, 64)}, and no default stands behind it")
    return EnvironmentText(default.strip())


class _Where:
    """Knows which line, or which variable, a path comes from."""

    def __init__(self, file: Path, document: Document, set_by: Mapping[tuple[str, ...], str]) -> None:
        self._file = file
        self._lines = document.lines
        self._set_by = set_by

    def fault(self, error: vol.Invalid, schema: Section) -> ConfigurationFault:
        path = tuple(str(getattr(part, "schema", part)) for part in error.path)
        message = error.msg
        if message == "extra keys not allowed":
            message = unknown_key(path[-1], _keys_at(schema, path[:-1]))
        return self.at(path, message)

    def is_overridden(self, path: tuple[str, ...]) -> bool:
        return any(above in self._set_by for above in _upwards(path))

    def at(self, path: tuple[str, ...], message: str) -> ConfigurationFault:
        # A variable goes first: it took the place of what the file has there.
        for above in _upwards(path):
            if above in self._set_by:
                return _fault(self._set_by[above], None, path, message)
        line = next((self._lines[above] for above in _upwards(path) if above in self._lines), 1)
        return _fault(self._file, line, path, message)


def _upwards(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return a path and all above it, the nearest first."""
    return [path[:length] for length in range(len(path), -1, -1)]


def _fault(file: Path | str, line: int | None, path: tuple[str, ...], message: str) -> ConfigurationFault:
    shown = ".".join(shorten(part, 64) for part in path)
    return ConfigurationFault(file=str(file), line=line, path=shown, message=message)


def _keys_at(schema: Section, path: tuple[str, ...]) -> list[str]:
    if path[:2] == ("terminals", "known"):
        return list(KNOWN_TERMINAL.keys)
    if path[:2] == ("web", "tokens"):
        return list(TOKEN.keys)
    level: Any = schema
    for part in path:
        level = level.keys[part][0]
        level = getattr(level, "inner", level)
    return list(level.keys)


def _settings(checked: Mapping[str, Any], folder: Path) -> Settings:
    mqtt, terminals, web = checked["mqtt"], checked["terminals"], checked["web"]
    known = tuple(
        Terminal(sn=sn, origin=TerminalOrigin.CONFIGURED, **details) for sn, details in terminals["known"].items()
    )
    door_tls = None if terminals["tls"] is None else ServerTlsSettings(**terminals["tls"])
    return Settings(
        mqtt=MqttSettings(**{**mqtt, "tls": None if mqtt["tls"] is None else MqttTlsSettings(**mqtt["tls"])}),
        homeassistant=HomeAssistantSettings(**checked["homeassistant"]),
        terminals=TerminalsSettings(**{**terminals, "known": known, "tls": door_tls}),
        commands=CommandSettings(**checked["commands"]),
        persons=PersonsSettings(**checked["persons"]),
        photos=PhotoSettings(**checked["photos"]),
        store=StoreSettings(
            url=_absolute(checked["store"]["url"], folder), photo_key=checked["store"]["photo_key"] or ()
        ),
        audit=AuditSettings(**checked["audit"]),
        web=WebSettings(**{**web, "tokens": {name: TokenSettings(**one) for name, one in web["tokens"].items()}}),
        logging=LoggingSettings(**checked["logging"]),
    )


def _absolute(url: Secret, folder: Path) -> Secret:
    """Let a relative SQLite file start at the configuration's folder, wherever the bridge is started."""
    scheme, _, file = url.reveal().partition(":///")
    return Secret(f"sqlite:///{folder / file}") if scheme == "sqlite" else url
