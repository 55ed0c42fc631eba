"""Loading the configuration: read `config.yaml`, apply the environment, check, and build `Settings`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import voluptuous as vol

from bridge.config.checks import EnvironmentText
from bridge.config.document import DocumentError, KeyPath, read_document
from bridge.config.faults import ConfigurationError, ConfigurationFault, FaultLocator, located_fault
from bridge.config.overrides import apply_overrides
from bridge.config.schema import Section, configuration_schema
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
"""The file that `!secret` reads, in the folder of the configuration."""


def load_settings(file: Path, environment: Mapping[str, str]) -> Settings:
    """Read and check a configuration, and add its defaults.

    Args:
        file: the configuration; relative paths in it start at its folder.
        environment: the variables for `!env_var` and overrides.

    Raises:
        ConfigurationError: with all faults.
    """
    folder = file.absolute().parent
    tags = {
        "!secret": _SecretsFile(folder / SECRETS_FILE).read,
        "!env_var": lambda text: _environment_variable(text, environment),
    }
    try:
        document = read_document(file, tags)
    except DocumentError as error:
        message = str(error)
        if not file.exists():
            message = f"there is no such file in {folder}: name the configuration with -c FILE or in FACEBRIDGE_CONFIG"
        raise ConfigurationError([located_fault(file, error.line, (), message)]) from None
    value = {} if document.value is None else document.value
    if not isinstance(value, dict):
        raise ConfigurationError([located_fault(file, 1, (), "must contain sections such as mqtt and terminals")])
    schema = configuration_schema(folder)
    set_by, faults = apply_overrides(value, schema, environment)
    locator = FaultLocator(file, document.lines, set_by)
    faults += [
        located_fault(file, line, path, message)
        for path, line, message in document.faults
        # A variable that replaces `!secret name` makes a missing secret irrelevant.
        if not locator.is_overridden(path)
    ]
    try:
        checked = schema(value)
    except vol.MultipleInvalid as several:
        raise ConfigurationError(faults + [_fault_of(one, schema, locator) for one in several.errors]) from None
    if faults:
        raise ConfigurationError(faults)
    return _settings(checked, file)


def _fault_of(error: vol.Invalid, schema: Section, locator: FaultLocator) -> ConfigurationFault:
    path: KeyPath = tuple(str(getattr(part, "schema", part)) for part in error.path)
    message = error.msg
    if message == "extra keys not allowed":
        message = unknown_key(path[-1], schema.keys_at(path[:-1]))
    return locator.fault(path, message)


class _SecretsFile:
    """Reads `secrets.yaml` when the first `!secret` needs it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._secrets: dict[str, Any] | None = None

    def read(self, name: str) -> object:
        if not name:
            raise ValueError(f"!secret must be followed by the name of a line in {SECRETS_FILE}")
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
            raise ValueError(f'there is no {SECRETS_FILE}: create it beside this file, with a line `{shown}: "…"`')
        try:
            document = read_document(self._file, {})
        except DocumentError as error:
            where = f"{SECRETS_FILE}:{error.line}" if error.line else SECRETS_FILE
            raise ValueError(f"!secret {shown}: {where}: {error}") from None
        if document.faults:
            path, line, message = document.faults[0]
            raise ValueError(f"!secret {shown}: {located_fault(SECRETS_FILE, line, path, message)}")
        if not isinstance(document.value, dict):
            raise ValueError(f"{SECRETS_FILE} must contain lines like `name: value`")
        return document.value


def _environment_variable(text: str, environment: Mapping[str, str]) -> EnvironmentText:
    name, _, default = text.partition(" ")
    if not name:
        raise ValueError("!env_var must be followed by the name of a variable, and a default if you want one")
    if name in environment:
        return EnvironmentText(environment[name])
    if not default:
        raise ValueError(f"there is no environment variable {shorten(name, 64)}: set it, or add a default behind it")
    return EnvironmentText(default.strip())


def _settings(checked: Mapping[str, Any], file: Path) -> Settings:
    file = file.absolute()
    mqtt, terminals, web = checked["mqtt"], checked["terminals"], checked["web"]
    known = tuple(
        Terminal(sn=sn, origin=TerminalOrigin.CONFIGURED, **details) for sn, details in terminals["known"].items()
    )
    terminals_tls = None if terminals["tls"] is None else ServerTlsSettings(**terminals["tls"])
    return Settings(
        mqtt=MqttSettings(**{**mqtt, "tls": None if mqtt["tls"] is None else MqttTlsSettings(**mqtt["tls"])}),
        homeassistant=HomeAssistantSettings(**checked["homeassistant"]),
        terminals=TerminalsSettings(**{**terminals, "known": known, "tls": terminals_tls}),
        commands=CommandSettings(**checked["commands"]),
        persons=PersonsSettings(**checked["persons"]),
        photos=PhotoSettings(**checked["photos"]),
        store=StoreSettings(
            url=_absolute(checked["store"]["url"], file.parent), photo_key=checked["store"]["photo_key"] or ()
        ),
        audit=AuditSettings(**checked["audit"]),
        web=WebSettings(**{**web, "tokens": {name: TokenSettings(**one) for name, one in web["tokens"].items()}}),
        logging=LoggingSettings(**checked["logging"]),
        file=file,
    )


def _absolute(url: Secret, folder: Path) -> Secret:
    """Make a relative SQLite path start at the configuration's folder, not at the working directory."""
    scheme, _, file = url.reveal().partition(":///")
    return Secret(f"sqlite:///{folder / file}") if scheme == "sqlite" else url
