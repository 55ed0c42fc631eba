"""The app's options as a configuration: the key of `config.yaml` for each option, and faults named by option.

The Supervisor allows options of two levels (developers.home-assistant.io, app configuration), so deeper keys have
options with other names. All other options have the names of `config.yaml`, and only its schema checks them.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.config.faults import ConfigurationError, ConfigurationFault
from bridge.config.settings import OWN_TOKEN
from bridge.home_assistant_app.supervisor import MqttService
from bridge.model.faults import shorten, unknown_key

_SUPERVISOR = "172.30.32.2"
"""The Supervisor's address in the network of the apps. Its ingress passes on requests of users that are logged in to
Home Assistant (developers.home-assistant.io, "Presenting your app")."""

KEYS: Mapping[str, str] = {
    **{
        same: same
        for same in (
            "mqtt.host",
            "mqtt.port",
            "mqtt.username",
            "mqtt.password",
            "mqtt.client_id",
            "mqtt.base_topic",
            "mqtt.protocol",
            "mqtt.tls",
            "homeassistant.discovery",
            "homeassistant.prefix",
            "homeassistant.send_time",
            "terminals.username",
            "terminals.password",
            "terminals.admit",
            "terminals.idle_timeout",
            "terminals.trusted_proxies",
            "terminals.forward_messages",
            "commands.deadline",
            "persons.remove_expired",
            "photos.folders",
            "photos.max_bytes",
            "photos.size",
            "store.photo_key",
            "audit.keep_days",
            "web.url",
            "web.username",
            "web.password",
            "web.trusted_proxies",
            "logging.level",
            "logging.format",
        )
    },
    "mqtt.ca": "mqtt.tls.ca",
    "mqtt.certificate": "mqtt.tls.certificate",
    "mqtt.key": "mqtt.tls.key",
    "mqtt.verify": "mqtt.tls.verify",
    "terminals.certificate": "terminals.tls.certificate",
    "terminals.certificate_key": "terminals.tls.key",
    "known_terminals": "terminals.known",
    "store.old_photo_key": "store.photo_key",
}
"""The configuration key of each option."""

TERMINAL_KEYS = frozenset({"name", "area", "groups", "username", "password", "key"})
"""The keys of an entry of `known_terminals` besides `sn`, named as in `terminals.known`; `groups` is one string."""

FILES = frozenset({"mqtt.ca", "mqtt.certificate", "mqtt.key", "terminals.certificate", "terminals.certificate_key"})
"""Options that name a file in the app's folder for the user's files."""

_SECTIONS = {name.partition(".")[0] for name in KEYS if "." in name}
_TOP_LEVEL = sorted({*_SECTIONS, *(name for name in KEYS if "." not in name)})
_OPTION_OF = {key: option for option, key in reversed(list(KEYS.items()))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Folders and ports that the container determines; options cannot change them.

    Attributes:
        data: the folder that outlives the container, `/data`.
        own_files: the folder of the user's files for this app, `/config`.
        terminals_port: the terminals' port inside the container; the app's Network section maps it.
        web_port: the port that the watchdog requests.
    """

    data: Path
    own_files: Path
    terminals_port: int
    web_port: int

    @property
    def store(self) -> Path:
        """The database file."""
        return self.data / "facebridge.db"

    @property
    def store_url(self) -> str:
        """The database's URL."""
        return f"sqlite:///{self.store}"

    @property
    def configuration(self) -> Path:
        """The `config.yaml` that is made from the options; `facebridge …` inside the container reads it."""
        return self.data / "config.yaml"


@dataclass(slots=True)
class AppOptions:
    """The options from the Supervisor, flat.

    Attributes:
        values: value by option, such as `mqtt.host`; without empty and null values.
        faults: of the form of the options.
    """

    values: dict[str, Any] = field(default_factory=dict)
    faults: list[ConfigurationFault] = field(default_factory=list)

    def __contains__(self, option: str) -> bool:
        """Return whether an option has a value."""
        return option in self.values


def read_options(document: Any) -> AppOptions:
    """Read the content of `options.json`; the result includes the faults."""
    options = AppOptions()
    if not isinstance(document, dict):
        options.faults.append(option_fault("", "options: must contain sections such as mqtt and terminals"))
        return options
    for name, value in document.items():
        if name in _SECTIONS and isinstance(value, dict):
            _read_section(name, value, options)
        elif name in _SECTIONS and value is not None:
            options.faults.append(option_fault(name, "must be a section with options"))
        elif name in KEYS:
            _add(options, name, value)
        elif name not in _SECTIONS:
            options.faults.append(option_fault(shorten(name, 64), unknown_key(name, _TOP_LEVEL)))
    return options


def _read_section(section: str, values: dict[str, Any], options: AppOptions) -> None:
    known = [name.partition(".")[2] for name in KEYS if name.startswith(f"{section}.")]
    for name, value in values.items():
        if name in known:
            _add(options, f"{section}.{name}", value)
        else:
            options.faults.append(option_fault(f"{section}.{shorten(name, 64)}", unknown_key(name, known)))


def _add(options: AppOptions, name: str, value: Any) -> None:
    # Home Assistant's page stores an empty string for a field that the user has cleared.
    if value not in (None, ""):
        options.values[name] = value


def configuration_of(options: AppOptions, container: Container, service: MqttService | None) -> dict[str, Any]:
    """Return the configuration for the options, with the keys of `config.yaml`, not yet checked by its schema.

    Args:
        options: the user's options.
        container: folders and ports.
        service: the broker that Home Assistant offers; None if the options name one.

    Raises:
        ConfigurationError: the options do not have the right form.
    """
    faults = list(options.faults)
    document: dict[str, Any] = {}
    for option, value in options.values.items():
        if option == "known_terminals":
            _set(document, KEYS[option], _known_terminals(value, faults))
        elif option == "mqtt.tls":
            _set_tls(document, value, faults)
        elif option == "store.old_photo_key":
            continue
        elif option in FILES:
            _set(document, KEYS[option], str(container.own_files / value) if isinstance(value, str) else value)
        else:
            _set(document, KEYS[option], value)
    if "store.old_photo_key" in options:
        keys = [options.values.get(option) for option in ("store.photo_key", "store.old_photo_key")]
        _set(document, "store.photo_key", keys)
        if keys[0] is None:
            faults.append(option_fault("store.photo_key", "must be given where store.old_photo_key is"))
    if faults:
        raise ConfigurationError(faults)
    if service is not None:
        _set_broker(document, service)
    _set(document, "terminals.host", "0.0.0.0")  # noqa: S104  the container's network; the Network section opens the port
    _set(document, "terminals.port", container.terminals_port)
    _set(document, "store.url", container.store_url)
    _set(document, "web.host", "0.0.0.0")  # noqa: S104  the watchdog connects from outside the container
    _set(document, "web.port", container.web_port)
    _set(document, "web.ingress", _SUPERVISOR)
    if "web.username" not in options and "web.password" not in options:
        # Every other app can reach this port. Health needs no login; the rest is closed to all but the doctor.
        _set(document, f"web.tokens.{OWN_TOKEN}", {"hash": secrets.token_urlsafe(32), "role": "operator"})
    return document


def named_by_option(error: ConfigurationError, container: Container) -> ConfigurationError:
    """Return the same faults with names of options instead of keys and lines."""
    return ConfigurationError([_renamed(fault, container) for fault in error.faults])


def option_fault(option: str, message: str) -> ConfigurationFault:
    """Return a fault of an option."""
    return ConfigurationFault(file="option", line=None, path=option, message=message)


def _renamed(fault: ConfigurationFault, container: Container) -> ConfigurationFault:
    if fault.file == "option":
        return fault
    parts = fault.path.split(".")
    for length in range(len(parts), 0, -1):
        option = _OPTION_OF.get(".".join(parts[:length]))
        if option is not None:
            rest = parts[length:]
            where = f" (looked for in {container.own_files})" if option in FILES else ""
            return option_fault(".".join([option, *rest]), f"{fault.message}{where}")
    return option_fault(fault.path, fault.message)


def _known_terminals(value: Any, faults: list[ConfigurationFault]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        faults.append(option_fault("known_terminals", "must be a list of terminals, each with an sn"))
        return known
    for number, one in enumerate(value, 1):
        sn = one.get("sn")
        if not isinstance(sn, str) or not sn:
            faults.append(option_fault(f"known_terminals.{number}.sn", "must be set to the terminal's serial number"))
            continue
        if sn in known:
            faults.append(option_fault(f"known_terminals.{number}.sn", f"{shorten(sn, 64)} is in the list already"))
            continue
        details = {name: detail for name, detail in one.items() if name != "sn" and detail not in (None, "")}
        faults += [
            option_fault(f"known_terminals.{shorten(sn, 64)}.{shorten(name, 64)}", unknown_key(name, TERMINAL_KEYS))
            for name in details.keys() - TERMINAL_KEYS
        ]
        if isinstance(details.get("groups"), str):
            details["groups"] = [name.strip() for name in details["groups"].split(",") if name.strip()]
        known[sn] = details
    return known


def _set_tls(document: dict[str, Any], value: Any, faults: list[ConfigurationFault]) -> None:
    if not isinstance(value, bool):
        faults.append(option_fault("mqtt.tls", "must be true or false"))
    elif value:
        document.setdefault("mqtt", {}).setdefault("tls", {})


def _set_broker(document: dict[str, Any], service: MqttService) -> None:
    mqtt = document.setdefault("mqtt", {})
    mqtt["host"] = service.host
    # The options may set another port or user of Home Assistant's broker.
    mqtt.setdefault("port", service.port)
    if "username" not in mqtt and "password" not in mqtt:
        mqtt |= {
            "username": service.username,
            "password": None if service.password is None else service.password.reveal(),
        }
    if service.tls:
        mqtt.setdefault("tls", {})


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    *above, name = key.split(".")
    for part in above:
        document = document.setdefault(part, {})
    document[name] = value
