"""From `config.yaml` and the environment to `Settings`, or to everything that is wrong with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import voluptuous as vol

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

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
    faults = [_fault(file, line, path, message) for path, line, message in document.faults]
    set_by, faults_of_overrides = apply_overrides(value, schema, environment)
    faults += faults_of_overrides
    where = _Where(file, document, set_by)
    try:
        checked = schema(value)
    except vol.Invalid as error:
        several = error.errors if isinstance(error, vol.MultipleInvalid) else [error]
        raise ConfigurationError(faults + [where.fault(one, schema) for one in several]) from None
    faults += [where.at(path, message) for path, message in _contradictions(checked)]
    if faults:
        raise ConfigurationError(faults)
    return _settings(checked, folder)


class _SecretsFile:
    """Reads `secrets.yaml` when the first `!secret` asks for it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._secrets: dict[Any, Any] | None = None

    def read(self, name: str) -> object:
        if self._secrets is None:
            try:
                value = read_document(self._file, {}).value
            except DocumentError as error:
                line = f":{error.line}" if error.line else ""
                raise ValueError(f"!secret {shorten(name, 64)} needs {SECRETS_FILE}{line}: {error}") from None
            if not isinstance(value, dict):
                raise ValueError(f"{SECRETS_FILE} must hold lines of `name: value`")
            self._secrets = value
        if name not in self._secrets:
            raise ValueError(f"{SECRETS_FILE} has no {shorten(name, 64)!r}")
        if not isinstance(self._secrets[name], str):
            raise ValueError(f"{SECRETS_FILE}: {shorten(name, 64)} must be text: put it in quotes")
        return self._secrets[name]


def _environment_variable(text: str, environment: Mapping[str, str]) -> str:
    name, _, default = text.partition(" ")
    if name in environment:
        return environment[name]
    if not default:
        raise ValueError(f"the environment has no {shorten(name, 64)}, and no default stands behind it")
    return default.strip()


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

    def at(self, path: tuple[str, ...], message: str) -> ConfigurationFault:
        for length in range(len(path), 0, -1):
            if path[:length] in self._set_by:
                variable = self._set_by[path[:length]]
                return ConfigurationFault(file=variable, line=None, path=".".join(path), message=message)
            if path[:length] in self._lines:
                return _fault(self._file, self._lines[path[:length]], path, message)
        return _fault(self._file, self._lines.get((), 1), path, message)


def _fault(file: Path, line: int | None, path: tuple[str, ...], message: str) -> ConfigurationFault:
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


def _contradictions(checked: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """Return what is right by itself and wrong together."""
    faults: list[tuple[tuple[str, ...], str]] = []
    terminals = checked["terminals"]
    if terminals["password"] is None:
        without = [sn for sn, known in terminals["known"].items() if known["password"] is None]
        if terminals["admit"] == "any" or not terminals["known"]:
            faults.append((("terminals", "password"), "must be given, with username: what the terminals log in with"))
        faults += [
            (("terminals", "known", sn), "needs a username and a password, here or for all in terminals")
            for sn in without
        ]
    web = checked["web"]
    if web["host"] not in _LOOPBACK and web["username"] is None and not web["tokens"]:
        faults.append((("web", "username"), f"must be given, with password: {web['host']} is open to other machines"))
    return faults


def _settings(checked: Mapping[str, Any], folder: Path) -> Settings:
    mqtt, terminals, web = checked["mqtt"], checked["terminals"], checked["web"]
    known = tuple(
        Terminal(sn=sn, origin=TerminalOrigin.CONFIGURED, **details) for sn, details in terminals["known"].items()
    )
    door_tls = None if terminals["tls"] is None else ServerTlsSettings(**terminals["tls"])
    store = {**checked["store"], "url": _absolute(checked["store"]["url"], folder)}
    return Settings(
        mqtt=MqttSettings(**{**mqtt, "tls": None if mqtt["tls"] is None else MqttTlsSettings(**mqtt["tls"])}),
        homeassistant=HomeAssistantSettings(**checked["homeassistant"]),
        terminals=TerminalsSettings(**{**terminals, "known": known, "tls": door_tls}),
        commands=CommandSettings(**checked["commands"]),
        persons=PersonsSettings(**checked["persons"]),
        photos=PhotoSettings(**checked["photos"]),
        store=StoreSettings(**store),
        audit=AuditSettings(**checked["audit"]),
        web=WebSettings(**{**web, "tokens": {name: TokenSettings(**one) for name, one in web["tokens"].items()}}),
        logging=LoggingSettings(**checked["logging"]),
    )


def _absolute(url: Secret, folder: Path) -> Secret:
    """Let a relative SQLite file start at the configuration's folder, wherever the bridge is started."""
    scheme, _, file = url.reveal().partition(":///")
    return Secret(f"sqlite:///{folder / file}") if scheme == "sqlite" else url
