"""Every option sets a key of `config.yaml`; every key has an option or a reason to have none."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config.faults import ConfigurationError
from bridge.config.load import load_settings
from bridge.config.schema import KNOWN_TERMINAL, Section, configuration_schema
from bridge.config.settings import OWN_TOKEN, Settings
from bridge.home_assistant_app.options import (
    FILES,
    KEYS,
    TERMINAL_KEYS,
    Container,
    configuration_of,
    named_by_option,
    read_options,
)
from bridge.home_assistant_app.supervisor import MqttService
from bridge.model.secret import Secret
from tests.home_assistant_app import supervisor_rules as rules

APP = Path(__file__).parents[2] / "ha_addon"
CONFIG: dict[str, Any] = yaml.safe_load((APP / "config.yaml").read_text())
SERVICE = MqttService(host="core-mosquitto", port=1883, username="addons", password=Secret("s3cret"), tls=False)
KEY, OLD_KEY = ("A" * 43 + "=", "B" * 42 + "A=")

WITHOUT_OPTION = {
    "terminals.host": "set by the container",
    "terminals.port": "set by the container; the Network section maps it",
    "terminals.path": "one setting less to get wrong on a terminal",
    "store.url": "in /data, which Home Assistant backs up",
    "web.host": "set by the container",
    "web.port": "used by the watchdog; the Network section maps it",
    "web.ingress": "the Supervisor's address, which is always the same",
    "web.tokens": "options cannot have names that users choose; programs can use the login",
}

GIVEN: dict[str, Any] = {
    "mqtt.host": "broker.example.org",
    "mqtt.port": 8883,
    "mqtt.username": "me",
    "mqtt.password": "pass",
    "mqtt.client_id": "second",
    "mqtt.base_topic": "doors",
    "mqtt.protocol": "3.1.1",
    "mqtt.tls": True,
    "mqtt.ca": "ca.pem",
    "mqtt.certificate": "client.pem",
    "mqtt.key": "client.key",
    "mqtt.verify": False,
    "homeassistant.discovery": False,
    "homeassistant.send_time": False,
    "homeassistant.prefix": "ha",
    "terminals.username": "gate",
    "terminals.password": "knock",
    "terminals.admit": "any",
    "terminals.idle_timeout": 60.0,
    "terminals.trusted_proxies": ["10.0.0.0/24"],
    "terminals.forward_messages": True,
    "terminals.certificate": "door.pem",
    "terminals.certificate_key": "door.key",
    "known_terminals": [
        {"sn": "T1", "name": "Front", "area": "Lobby", "groups": "lobby, all_day", "username": "u", "password": "p",
         "key": "k"},
    ],
    "commands.deadline": 7.0,
    "persons.remove_expired": 30,
    "photos.folders": ["faces"],
    "photos.max_bytes": 2_000_000,
    "photos.size": "640x480",
    "store.photo_key": KEY,
    "store.old_photo_key": OLD_KEY,
    "audit.keep_days": 7,
    "web.url": "https://doors.example.org",
    "web.username": "admin",
    "web.password": "open",
    "web.trusted_proxies": ["10.0.0.0/24"],
    "logging.level": "debug",
    "logging.format": "json",
}  # fmt: skip
"""A value for every option that differs from its default."""


@pytest.fixture
def container(tmp_path: Path) -> Container:
    own = tmp_path / "config"
    own.mkdir()
    for option in FILES:
        (own / GIVEN[option]).touch()
    (tmp_path / "faces").mkdir()
    return Container(data=tmp_path, own_files=own, terminals_port=8765, web_port=8099)


def document(given: dict[str, Any]) -> dict[str, Any]:
    """Return the content of options.json."""
    nested: dict[str, Any] = {}
    for option, value in given.items():
        section, _, name = option.partition(".")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            nested[option] = value
    return nested


def load(given: dict[str, Any], container: Container, service: MqttService | None = None) -> Settings:
    options = read_options(json.loads(json.dumps(document(given))))
    made = configuration_of(options, container, service)
    container.configuration.write_text(yaml.safe_dump(made))
    return load_settings(container.configuration, {})


def faults_of(given: dict[str, Any], container: Container) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        load({"terminals.username": "dev", "terminals.password": "123", **given}, container, SERVICE)
    return {fault.path: fault.message for fault in named_by_option(caught.value, container).faults}


def keys_of(section: Section, above: str = "") -> Iterator[str]:
    for name, (check, _) in section.keys.items():
        inner = getattr(check, "inner", check)
        if isinstance(inner, Section):
            yield from keys_of(inner, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def test_the_options_are_those_of_the_app_schema() -> None:
    paths = {path for path, _, _ in rules.types(CONFIG["schema"])}
    assert {".".join(path) for path in paths if path[0] != "known_terminals"} | {"known_terminals"} == set(KEYS)
    assert {path[1] for path in paths if path[0] == "known_terminals"} == TERMINAL_KEYS | {"sn"}
    assert set(KNOWN_TERMINAL.keys) == TERMINAL_KEYS


def test_every_key_has_an_option_or_a_reason_to_have_none(tmp_path: Path) -> None:
    keys = set(keys_of(configuration_schema(tmp_path)))
    with_option = set(KEYS.values()) - {"mqtt.tls"}
    assert with_option <= keys
    assert keys - with_option == set(WITHOUT_OPTION)


def test_the_supervisor_and_the_bridge_accept_every_option(container: Container) -> None:
    assert GIVEN.keys() == KEYS.keys()
    written = rules.accept(CONFIG["schema"], document(GIVEN))
    assert written == document(GIVEN)
    settings = load({**GIVEN, "photos.folders": [str(container.data / "faces")]}, container)
    assert settings.mqtt.tls is not None
    assert settings.mqtt.tls.ca == container.own_files / "ca.pem"
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.protocol) == ("broker.example.org", 8883, "3.1.1")
    assert settings.terminals.tls is not None
    assert settings.terminals.tls.key == container.own_files / "door.key"
    (known,) = settings.terminals.known
    assert (known.sn, known.name, known.area, tuple(known.groups)) == ("T1", "Front", "Lobby", ("lobby", "all_day"))
    assert settings.store.photo_key == (Secret(KEY), Secret(OLD_KEY))
    assert settings.photos.size == (640, 480)
    assert settings.logging.format == "json"


@pytest.mark.parametrize("option", sorted(GIVEN))
def test_every_option_has_an_effect(option: str, container: Container) -> None:
    basis = {"terminals.username": "dev", "terminals.password": "123", "web.username": "w", "web.password": "w"}
    together = {
        "mqtt.password": ("mqtt.username",),
        "mqtt.certificate": ("mqtt.key",),
        "mqtt.key": ("mqtt.certificate",),
        "terminals.certificate": ("terminals.certificate_key",),
        "terminals.certificate_key": ("terminals.certificate",),
        "store.old_photo_key": ("store.photo_key",),
    }
    given = {**GIVEN, "photos.folders": [str(container.data / "faces")]}
    with_it = {**basis, **{name: given[name] for name in (option, *together.get(option, ()))}}
    without = {name: value for name, value in with_it.items() if name != option} | {
        name: value for name, value in basis.items() if name == option
    }
    # A certificate and its key must be set together.
    partners = together.get(option, ()) if option.endswith(("certificate", "key")) and "photo" not in option else ()
    for name in partners:
        without.pop(name, None)
    service = None if option == "mqtt.host" else SERVICE
    assert load(with_it, container, service) != load(without, container, service)


def test_empty_values_are_ignored(container: Container) -> None:
    given = {"terminals.username": "dev", "terminals.password": "123", "mqtt.host": "", "photos.size": None}
    settings = load(given, container, SERVICE)
    assert settings.mqtt.host == "core-mosquitto"
    assert settings.photos.size is None


def test_home_assistants_broker_is_used_with_its_credentials(container: Container) -> None:
    basis = {"terminals.username": "dev", "terminals.password": "123"}
    settings = load(basis, container, SERVICE).mqtt
    assert (settings.host, settings.port, settings.username) == ("core-mosquitto", 1883, "addons")
    assert settings.password == Secret("s3cret")
    assert (settings.protocol, settings.tls) == ("5", None)
    over_tls = MqttService(host="b", port=8883, username=None, password=None, tls=True)
    assert load(basis, container, over_tls).mqtt.tls is not None
    own = load({**basis, "mqtt.username": "me", "mqtt.password": "mine"}, container, SERVICE).mqtt
    assert (own.host, own.username, own.password) == ("core-mosquitto", "me", Secret("mine"))


def test_without_a_login_the_api_is_closed(container: Container) -> None:
    basis = {"terminals.username": "dev", "terminals.password": "123"}
    one, other = (load(basis, container, SERVICE).web for _ in range(2))
    assert one.username is None
    token = one.tokens[OWN_TOKEN]
    assert list(one.tokens) == [OWN_TOKEN]
    assert token.role == "operator"
    assert token.hash != other.tokens[OWN_TOKEN].hash
    assert len(token.hash.reveal()) >= 40


def test_only_the_supervisor_passes_requests_of_home_assistants_users_on(container: Container) -> None:
    web = load({"terminals.username": "dev", "terminals.password": "123"}, container, SERVICE).web
    assert web.ingress == ip_network("172.30.32.2")
    assert CONFIG["ingress"] is True
    assert CONFIG["ingress_port"] == 8099


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"commands.deadline": 90}, ("commands.deadline", "must be a number of seconds from 1 to 60")),
        ({"terminals.admit": "all"}, ("terminals.admit", "must be one of 'known', 'any'")),
        ({"mqtt.ca": "no.pem"}, ("mqtt.ca", "there is no such file (looked for in ")),
        ({"mqtt.certificate": "client.pem"}, ("mqtt.key", "must be given if certificate is given")),
        ({"terminals.certificate": "door.pem"}, ("terminals.certificate_key", "must be given")),
        ({"mqtt.tls": "yes"}, ("mqtt.tls", "must be true or false")),
        ({"photos.folders": ["/nowhere"]}, ("photos.folders.0", "there is no such folder")),
        ({"store.photo_key": "short"}, ("store.photo_key", "must be a Fernet key")),
        ({"store.old_photo_key": KEY}, ("store.photo_key", "must be given where store.old_photo_key is")),
        ({"web.username": "x"}, ("web.password", "must be given if username is given")),
        ({"known_terminals": [{"name": "x"}]}, ("known_terminals.1.sn", "must be set to")),
        ({"known_terminals": [{"sn": "T1"}, {"sn": "T1"}]}, ("known_terminals.2.sn", "T1 is in the list already")),
        ({"known_terminals": [{"sn": "a b"}]}, ("known_terminals.a b", "an SN has 1 to 64")),
        ({"known_terminals": [{"sn": "T1", "groups": "all"}]}, ("known_terminals.T1.groups.0", '"all" is the group')),
        ({"known_terminals": [{"sn": "T1", "nmae": "x"}]}, ("known_terminals.T1.nmae", "did you mean 'name'?")),
        ({"known_terminals": {"sn": "T1"}}, ("known_terminals", "must be a list of terminals")),
        ({"mqtt.hots": "x"}, ("mqtt.hots", "did you mean 'host'?")),
        ({"doors.x": 1}, ("doors", "unknown key 'doors'")),
        ({"mqtt": "core-mosquitto"}, ("mqtt", "must be a section with options")),
    ],
)  # fmt: skip
def test_faults_are_named_by_option(given: dict[str, Any], fault: tuple[str, str], container: Container) -> None:
    faults = faults_of(given, container)
    assert faults.keys() == {fault[0]}
    assert fault[1] in faults[fault[0]]


def test_all_faults_are_reported_together(container: Container) -> None:
    faults = faults_of({"commands.deadline": 0, "audit.keep_days": 0, "logging.level": "loud"}, container)
    assert faults.keys() == {"commands.deadline", "audit.keep_days", "logging.level"}


@pytest.mark.parametrize("content", [None, [], "x", 1])
def test_options_of_a_wrong_type_are_a_fault(content: Any, container: Container) -> None:
    with pytest.raises(ConfigurationError):
        configuration_of(read_options(content), container, SERVICE)


def test_no_fault_shows_a_secret(container: Container) -> None:
    given = {"mqtt.password": "hunter2\n", "store.photo_key": "hunter2", "web.password": ["hunter2"]}
    assert "hunter2" not in str(faults_of(given, container))
