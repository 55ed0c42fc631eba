# ruff: noqa: E501  a table reads best with one row a line
"""Environment variables can set any key and replace `!env_var` tags."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.model.secret import Secret
from tests.config.loading import CREDENTIALS, faults_of, load


def test_secrets_and_the_environment_are_read(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text('terminal: "123"\n')
    loaded = load(
        tmp_path,
        "terminals: {username: !env_var DOOR_USER dev one, password: !secret terminal}\nmqtt: {host: !env_var BROKER}",
        {"BROKER": "broker"},
    )
    assert (loaded.terminals.username, loaded.terminals.password) == ("dev one", Secret("123"))
    assert loaded.mqtt.host == "broker"


@pytest.mark.parametrize(
    ("value", "environment", "port"),
    [("!env_var PORT 8883", {}, 8883), ("!env_var PORT", {"PORT": "8884"}, 8884)],
)
def test_a_variable_is_read_as_its_key_requires(
    tmp_path: Path, value: str, environment: dict[str, str], port: int
) -> None:
    loaded = load(
        tmp_path,
        f"{CREDENTIALS}mqtt: {{port: {value}, username: !env_var NUMBER 007, host: !env_var EMPTY x, tls: !env_var TLS null}}",
        {"EMPTY": "", **environment},
    )
    assert (loaded.mqtt.port, loaded.mqtt.username) == (port, "007")
    assert (loaded.mqtt.host, loaded.mqtt.tls) == (None, None)


OVERRIDES: list[tuple[str, str, tuple[str, ...], Any]] = [
    ("FACEBRIDGE_MQTT__HOST", "broker", ("mqtt", "host"), "broker"),
    ("FACEBRIDGE_MQTT__HOST", "", ("mqtt", "host"), None),
    ("FACEBRIDGE_MQTT__PORT", "8883", ("mqtt", "port"), 8883),
    ("FACEBRIDGE_MQTT__PROTOCOL", "5", ("mqtt", "protocol"), "5"),
    ("FACEBRIDGE_MQTT__CLIENT_ID", "007", ("mqtt", "client_id"), "007"),
    ("FACEBRIDGE_MQTT__CLIENT_ID", "null", ("mqtt", "client_id"), "null"),
    ("FACEBRIDGE_MQTT__CLIENT_ID", "[x]", ("mqtt", "client_id"), "[x]"),
    ("FACEBRIDGE_MQTT__TLS", "null", ("mqtt", "tls"), None),
    ("FACEBRIDGE_MQTT", "{host: broker}", ("mqtt", "host"), "broker"),
    ("FACEBRIDGE_MQTT__TLS__VERIFY", "false", ("mqtt", "tls", "verify"), False),
    ("FACEBRIDGE_TERMINALS__PASSWORD", "123", ("terminals", "password"), Secret("123")),
    ("FACEBRIDGE_PHOTOS__FOLDERS", "[/]", ("photos", "folders"), (Path("/"),)),
    ("FACEBRIDGE_PHOTOS__SIZE", "640x480", ("photos", "size"), (640, 480)),
    ("FACEBRIDGE_HOMEASSISTANT__DISCOVERY", "false", ("homeassistant", "discovery"), False),
    ("FACEBRIDGE_HOMEASSISTANT__SEND_TIME", "false", ("homeassistant", "send_time"), False),
    ("FACEBRIDGE_TERMINALS__TRUSTED_PROXIES", "[10.0.0.7]", ("terminals", "trusted_proxies"), (ip_network("10.0.0.7"),)),
    ("FACEBRIDGE_COMMANDS__DEADLINE", "2.5", ("commands", "deadline"), 2.5),
    ("facebridge_MQTT__HOST", "other", ("mqtt", "host"), None),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "value", "path", "expected"), OVERRIDES)
def test_any_key_can_be_set_from_the_environment(
    tmp_path: Path, variable: str, value: str, path: tuple[str, ...], expected: object
) -> None:
    loaded: Any = load(tmp_path, CREDENTIALS, {variable: value})
    for name in path:
        loaded = getattr(loaded, name)
    assert loaded == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_text=st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), min_size=1, max_size=40)
    | st.sampled_from(["null", "~", "1e3", "0x1F", "2026-11-24", "yes", "!secret x", "*x", "&x", "[", "{a: b}", "# x"])
)
def test_text_from_the_environment_is_not_interpreted(tmp_path: Path, given_text: str) -> None:
    environment = {"FACEBRIDGE_TERMINALS__PASSWORD": given_text, "USER_NAME": given_text}
    # The user names of logins at the bridge cannot contain a colon; that of the login at the broker can.
    loaded = load(tmp_path, "terminals: {username: dev}\nmqtt: {username: !env_var USER_NAME}", environment)
    assert (loaded.mqtt.username, loaded.terminals.password) == (given_text, Secret(given_text))


def test_a_variable_replaces_a_missing_secret(tmp_path: Path) -> None:
    text = "terminals: {username: dev, password: !secret terminal_password}"
    loaded = load(tmp_path, text, {"FACEBRIDGE_TERMINALS__PASSWORD": "given"})
    assert loaded.terminals.password == Secret("given")


def test_a_variable_sets_a_key_in_a_section_that_another_variable_sets(tmp_path: Path) -> None:
    environment = {"FACEBRIDGE_MQTT__HOST": "b", "FACEBRIDGE_MQTT": "{host: a, port: 1884}"}
    loaded = load(tmp_path, CREDENTIALS, environment)
    assert (loaded.mqtt.host, loaded.mqtt.port) == ("b", 1884)


def test_a_fault_in_a_replaced_value_names_the_variable(tmp_path: Path) -> None:
    text = f"{CREDENTIALS}mqtt: {{tls: {{ca: config.yaml}}}}"
    assert faults_of(tmp_path, text, {"FACEBRIDGE_MQTT__TLS": "{ca: nowhere.pem}"}) == [
        "FACEBRIDGE_MQTT__TLS: mqtt.tls.ca: there is no such file"
    ]


def test_a_variable_for_a_key_below_a_scalar_is_a_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, f"{CREDENTIALS}mqtt: 7", {"FACEBRIDGE_MQTT__HOST": "x"}) == [
        "FACEBRIDGE_MQTT__HOST: mqtt is not a section in the file",
        "config.yaml:2: mqtt: must be a section: write its keys below it, one a line",
    ]


def test_the_sn_of_a_listed_terminal_matches_in_any_case(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "terminals: {username: dev, password: secret, known: {AbC: {}}}",
        {"FACEBRIDGE_TERMINALS__KNOWN__ABC__NAME": "123", "FACEBRIDGE_TERMINALS__KNOWN__T2__NAME": "new"},
    )
    assert {known.sn: known.name for known in loaded.terminals.known} == {"AbC": "123", "T2": "new"}


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("FACEBRIDGE_MQQT__HOST", "x", "FACEBRIDGE_MQQT__HOST: sets no key (did you mean FACEBRIDGE_MQTT__HOST?)"),
        ("FACEBRIDGE_MQTT_HOST", "x", "FACEBRIDGE_MQTT_HOST: sets no key (did you mean FACEBRIDGE_MQTT__HOST?)"),
        ("FACEBRIDGE_COLOUR", "x", "FACEBRIDGE_COLOUR: unknown key 'colour' (known: mqtt, homeassistant, "),
        ("FACEBRIDGE_TERMINALS__KNOWN__T1__NMAE", "x", "FACEBRIDGE_TERMINALS__KNOWN__T1__NMAE: unknown key 'nmae' (did you mean 'name'?)"),
        ("FACEBRIDGE_TERMINALS__KNOWN__A B", "{}", "FACEBRIDGE_TERMINALS__KNOWN__A B: terminals.known.A B: an SN has 1 to 64"),
        ("FACEBRIDGE_MQTT__CLIENT_ID", "", "FACEBRIDGE_MQTT__CLIENT_ID: mqtt.client_id: must be text of 1 to 1024 printable"),
        ("FACEBRIDGE_MQTT__HOST", "\udcff", "FACEBRIDGE_MQTT__HOST: mqtt.host: must be text of 1 to 1024 printable"),
        ("FACEBRIDGE_MQTT__BASE_TOPIC", "a/#", "FACEBRIDGE_MQTT__BASE_TOPIC: mqtt.base_topic: must be a topic without"),
        ("FACEBRIDGE_STORE__URL", "007", "FACEBRIDGE_STORE__URL: store.url: must begin with sqlite:/// or postgresql://"),
        ("FACEBRIDGE_PHOTOS__FOLDERS", "[nowhere]", "FACEBRIDGE_PHOTOS__FOLDERS: photos.folders.0: there is no such folder"),
        ("FACEBRIDGE_PHOTOS__FOLDERS", "[!secret x]", "FACEBRIDGE_PHOTOS__FOLDERS: photos.folders: unknown tag"),
        ("FACEBRIDGE_MQTT", "{host: a, host: b}", "FACEBRIDGE_MQTT: mqtt: this key exists already"),
        ("FACEBRIDGE_MQTT__PORT", "abc", "FACEBRIDGE_MQTT__PORT: mqtt.port: must be a whole number from 1 to 65535"),
        ("FACEBRIDGE_MQTT__HOST__X", "x", "FACEBRIDGE_MQTT__HOST__X: mqtt.host has no keys below it"),
        ("FACEBRIDGE_MQTT", "x", "FACEBRIDGE_MQTT: mqtt: must be a section: write its keys below it, one a line"),
        ("FACEBRIDGE_PHOTOS__FOLDERS", "[", "FACEBRIDGE_PHOTOS__FOLDERS: photos.folders: must be a list of folders"),
    ],
)  # fmt: skip
def test_a_fault_of_a_variable_names_it(tmp_path: Path, variable: str, value: str, fault: str) -> None:
    faults = faults_of(tmp_path, CREDENTIALS, {variable: value, "FACEBRIDGE_CONFIG": "x"})
    assert len(faults) == 1
    assert faults[0].startswith(fault)
