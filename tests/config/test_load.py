# ruff: noqa: E501  a table reads best with one row a line
"""A configuration is read whole, or everything that is wrong with it is told, with file, line and key."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config.faults import ConfigurationError
from bridge.config.load import load_settings
from bridge.config.schema import KNOWN_TERMINAL, TOKEN, Section, configuration_schema
from bridge.config.settings import Settings
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin

ROOT = Path(__file__).parents[2]
CREDENTIALS = "terminals: {username: dev, password: secret}\n"


def load(folder: Path, text: str, environment: dict[str, str] | None = None) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    return load_settings(file, environment or {})


def faults_of(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, environment)
    return [str(fault).removeprefix(f"{folder}/") for fault in caught.value.faults]


def test_the_default_configuration_is_the_schemas_defaults(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text('terminal_password: "secret"\n')
    assert load(tmp_path, (ROOT / "config.yaml").read_text()) == load(tmp_path, CREDENTIALS)


def keys_of(section: Section, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, (check, _) in section.keys.items():
        found.add((*above, name))
        inner = getattr(check, "inner", check)
        if isinstance(inner, Section) and name != "tls":
            found |= keys_of(inner, (*above, name))
    return found


def test_the_default_configuration_shows_every_key(tmp_path: Path) -> None:
    text = (ROOT / "config.yaml").read_text()
    shown = yaml.compose(text, yaml.SafeLoader)
    found: set[tuple[str, ...]] = set()

    def walk(node: yaml.Node, above: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found.add((*above, key.value))
                walk(value, (*above, key.value))

    assert shown is not None
    walk(shown, ())
    assert found == keys_of(configuration_schema(tmp_path))
    for key in KNOWN_TERMINAL.keys:
        assert f"  #     {key}:" in text
    for key in TOKEN.keys:
        assert f"{key}:" in text


def test_a_full_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "faces").mkdir()
    loaded = load(
        tmp_path,
        """
mqtt: {host: broker, port: 8883, username: u, password: p, protocol: "3.1.1", tls: {ca: ca.pem, verify: false}}
terminals:
  path: /devs/
  password: everyone
  username: dev
  trusted_proxies: [10.0.0.7, 10.1.0.0/16]
  idle_timeout: 30
  known:
    FEDCBA9876543210: {name: Front door, area: Lobby, key: k, groups: [lobby], username: own, password: own}
    "12345":
commands: {deadline: 2.5}
photos: {folders: [faces], size: 640x480}
store: {url: "sqlite:///data/store.db"}
web: {host: 0.0.0.0, username: admin, password: w, tokens: {robot: {hash: h, role: operator}}}
""",
    )
    assert loaded.mqtt.tls is not None
    assert (loaded.mqtt.tls.ca, loaded.mqtt.tls.verify) == (tmp_path / "ca.pem", False)
    assert loaded.terminals.path == "/devs"
    assert loaded.terminals.trusted_proxies == (ip_network("10.0.0.7"), ip_network("10.1.0.0/16"))
    assert loaded.terminals.known == (
        Terminal(
            sn="FEDCBA9876543210",
            origin=TerminalOrigin.CONFIGURED,
            name="Front door",
            area="Lobby",
            key=Secret("k"),
            groups=("lobby",),
            username="own",
            password=Secret("own"),
        ),
        Terminal(sn="12345", origin=TerminalOrigin.CONFIGURED),
    )
    assert loaded.photos.folders == (tmp_path / "faces",)
    assert loaded.photos.size == (640, 480)
    assert loaded.store.url == Secret(f"sqlite:///{tmp_path}/data/store.db")
    assert loaded.web.tokens["robot"].role == "operator"


WRONG: list[tuple[str, str]] = [
    ("mqtt: {hots: x}", "config.yaml:1: mqtt.hots: unknown key 'hots' (did you mean 'host'?)"),
    ("mqqt: {host: x}", "config.yaml:1: mqqt: unknown key 'mqqt' (did you mean 'mqtt'?)"),
    ("mqtt: {port: 99999}", "config.yaml:1: mqtt.port: must be a whole number from 1 to 65535"),
    ("mqtt: {port: '1883'}", "config.yaml:1: mqtt.port: must be a whole number from 1 to 65535"),
    (
        "mqtt: {client_id: 007}",
        "config.yaml:1: mqtt.client_id: must be text, and YAML reads this as a number: put it in quotes",
    ),
    (
        "mqtt: {host: 2026-11-24}",
        "config.yaml:1: mqtt.host: must be text, and YAML reads this as a date: put it in quotes",
    ),
    ("mqtt: {protocol: 5}", "config.yaml:1: mqtt.protocol: must be one of '5', '3.1.1', in quotes"),
    (
        "mqtt: {base_topic: a/#}",
        "config.yaml:1: mqtt.base_topic: must be a topic without + and #, not beginning with / or $, not ending with /",
    ),
    ("mqtt:\n  tls: {ca: nope.pem}", "config.yaml:2: mqtt.tls.ca: there is no such file"),
    ("mqtt: 7", "config.yaml:1: mqtt: must hold keys of its own, one a line below it"),
    ("homeassistant: {discovery: 1}", "config.yaml:1: homeassistant.discovery: must be true or false"),
    ("commands: {deadline: 0.5}", "config.yaml:1: commands.deadline: must be a number of seconds from 1 to 60"),
    ("commands: {deadline: .nan}", "config.yaml:1: commands.deadline: must be a number of seconds from 1 to 60"),
    (
        "photos: {size: 2000x10}",
        'config.yaml:1: photos.size: must be a width and a height of 32 to 1080 pixels, as "640x480"',
    ),
    ("photos: {folders: /media}", "config.yaml:1: photos.folders: must be a list of folders, as [one, two]"),
    ("photos: {folders: [nowhere]}", "config.yaml:1: photos.folders.0: there is no such folder"),
    ("store: {url: 'mysql://x'}", "config.yaml:1: store.url: must begin with sqlite:/// or postgresql://"),
    (
        "web: {host: 0.0.0.0}",
        "config.yaml:1: web.username: must be given, with password: 0.0.0.0 is open to other machines",
    ),
    ("web: {username: admin}", "config.yaml:1: web.password: must be given too: username and password go together"),
    (
        "web: {url: 'ftp://x'}",
        "config.yaml:1: web.url: must be an address like https://doors.example.org, without a user",
    ),
    ("web: {tokens: {robot: {role: operator}}}", "config.yaml:1: web.tokens.robot.hash: must be given"),
    (
        "web: {tokens: {robot: {hash: h, role: boss}}}",
        "config.yaml:1: web.tokens.robot.role: must be one of 'admin', 'operator'",
    ),
    (
        "logging: {level: !secret nope}",
        "config.yaml:1: logging.level: !secret nope needs secrets.yaml: there is no such file",
    ),
    (
        "logging: {level: !env_var NOPE}",
        "config.yaml:1: logging.level: the environment has no NOPE, and no default stands behind it",
    ),
    (
        "logging: {level: !python/name x}",
        "config.yaml:1: logging.level: unknown tag !python/name (known: !secret and !env_var)",
    ),
]


@pytest.mark.parametrize(("text", "fault"), WRONG)
def test_a_fault_names_line_key_and_what_is_allowed(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, f"{text}\n{CREDENTIALS}") == [fault]


WRONG_TERMINALS: list[tuple[str, str]] = [
    ("known: {12345: {}}", "terminals.known.12345: YAML does not read this name as text: put it in quotes"),
    ("known: {a b: {}}", "terminals.known.a b: an SN has 1 to 64 letters, digits, _ and -"),
    ("known: {T1: {groups: [all]}}", 'terminals.known.T1.groups.0: "all" is the group of every terminal already'),
    ("known: {T1: {nmae: x}}", "terminals.known.T1.nmae: unknown key 'nmae' (did you mean 'name'?)"),
    ("known: {T1: {username: x}}", "terminals.known.T1.password: must be given too: username and password go together"),
    ("known: {T1: {}, T1: {}}", "terminals.known.T1: stands here again, first in line 1"),
    ("known: {T1: {password: 123}}", "terminals.known.T1.password: must be text, and YAML reads this as a number: put it in quotes"),
    ("trusted_proxies: [proxy]", "terminals.trusted_proxies.0: must be an address or a network, as 10.0.0.7 or 10.0.0.0/24"),
    ("path: devs", "terminals.path: must begin with / and hold letters, digits and . _ ~ - / only"),
    ("admit: all", "terminals.admit: must be one of 'known', 'any'"),
    ("idle_timeout: 1", "terminals.idle_timeout: must be a number of seconds from 5 to 3600"),
    ("tls: {certificate: config.yaml}", "terminals.tls.key: must be given"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), WRONG_TERMINALS)
def test_a_fault_of_the_terminals_door_is_named(tmp_path: Path, text: str, fault: str) -> None:
    faults = faults_of(tmp_path, f"terminals: {{username: dev, password: secret, {text}}}")
    assert faults == [f"config.yaml:1: {fault}"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "config.yaml:1: terminals.password: must be given, with username: what the terminals log in with"),
        (
            "terminals:\n  known:\n    T1: {}",
            "config.yaml:3: terminals.known.T1: needs a username and a password, here or for all in terminals",
        ),
        (
            "terminals:\n  admit: any\n  known:\n    T1: {username: u, password: p}",
            "config.yaml:1: terminals.password: must be given, with username: what the terminals log in with",
        ),
    ],
)
def test_no_credentials_for_terminals_is_a_fault(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, text) == [fault]


def test_every_known_terminals_own_credentials_are_enough(tmp_path: Path) -> None:
    loaded = load(tmp_path, "terminals: {known: {T1: {username: u, password: p}}}")
    assert loaded.terminals.username is None


def test_all_faults_are_told_at_once_by_line(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, "logging:\n  level: loud\nmqtt:\n  port: 0\n  host: 7\n")
    assert [fault.split(": ")[:2] for fault in faults] == [
        ["config.yaml:2", "logging.level"],
        ["config.yaml:4", "mqtt.port"],
        ["config.yaml:5", "mqtt.host"],
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a: [1\nb: 2", "config.yaml:2: is not YAML: expected ',' or ']', but got ':'"),
        (b"mqtt:\n\thost: x", "config.yaml:2: is not YAML: found character '\\t' that cannot start any token"),
        (b"mqtt:\n  host: \xff", "config.yaml:2: is not UTF-8"),
        (b"mqtt:\n  host: \x01", "config.yaml:2: holds a character that YAML does not allow"),
        (b"- a", "config.yaml:1: must hold keys like mqtt and terminals, one a line"),
        (b"a: " + b"[" * 3000, "config.yaml: is nested too deeply"),
        (b"a: &a [*a]", "config.yaml:1: is nested too deeply"),
        (b"#" * (1024 * 1024 + 1), "config.yaml: has more than 1048576 bytes"),
    ],
)
def test_what_is_no_configuration_is_told(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "config.yaml", {})
    assert [str(one).removeprefix(f"{tmp_path}/") for one in caught.value.faults] == [fault]


def test_a_bomb_of_aliases_is_told(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too many values" in faults_of(tmp_path, "\n".join(lines))[0]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load_settings(tmp_path / "nowhere.yaml", {})


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
    ("content", "fault"),
    [
        ("other: x", "secrets.yaml has no 'name'"),
        ("name: 123456", "secrets.yaml: name must be text: put it in quotes"),
        ("- name", "secrets.yaml must hold lines of `name: value`"),
        ("name: [", "!secret name needs secrets.yaml:1: is not YAML"),
    ],
)
def test_a_secret_that_is_not_there_is_told_where_it_is_used(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "secrets.yaml").write_text(content)
    faults = faults_of(tmp_path, "terminals:\n  username: dev\n  password: !secret name")
    assert len(faults) == 1
    assert faults[0].startswith(f"config.yaml:3: terminals.password: {fault}")


OVERRIDES: list[tuple[str, str, tuple[str, ...], Any]] = [
    ("FACEBRIDGE_MQTT__HOST", "broker", ("mqtt", "host"), "broker"),
    ("FACEBRIDGE_MQTT__HOST", "", ("mqtt", "host"), None),
    ("FACEBRIDGE_MQTT__PORT", "8883", ("mqtt", "port"), 8883),
    ("FACEBRIDGE_MQTT__PROTOCOL", "5", ("mqtt", "protocol"), "5"),
    ("FACEBRIDGE_MQTT__PASSWORD", "123", ("mqtt", "password"), Secret("123")),
    ("FACEBRIDGE_HOMEASSISTANT__DISCOVERY", "false", ("homeassistant", "discovery"), False),
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


def test_a_listed_terminal_is_found_in_any_case(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "terminals: {username: dev, password: secret, known: {AbC: {}}}",
        {"FACEBRIDGE_TERMINALS__KNOWN__ABC__NAME": "123", "FACEBRIDGE_TERMINALS__KNOWN__T2__NAME": "new"},
    )
    assert {known.sn: known.name for known in loaded.terminals.known} == {"AbC": "123", "T2": "new"}


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("FACEBRIDGE_MQQT__HOST", "x", "FACEBRIDGE_MQQT__HOST: unknown key 'mqqt' (did you mean 'mqtt'?)"),
        ("FACEBRIDGE_MQTT__PORT", "abc", "FACEBRIDGE_MQTT__PORT: mqtt.port: must be a whole number from 1 to 65535"),
        ("FACEBRIDGE_MQTT__HOST__X", "x", "FACEBRIDGE_MQTT__HOST__X: mqtt.host has no keys below it"),
        ("FACEBRIDGE_MQTT", "x", "FACEBRIDGE_MQTT: mqtt: must hold keys of its own, one a line below it"),
        ("FACEBRIDGE_PHOTOS__FOLDERS", "[", "FACEBRIDGE_PHOTOS__FOLDERS: is not YAML: expected the node content"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str, fault: str) -> None:
    faults = faults_of(tmp_path, CREDENTIALS, {variable: value, "FACEBRIDGE_CONFIG": "x"})
    assert len(faults) == 1
    assert faults[0].startswith(fault)


SECRET_KEYS = (
    "mqtt: {password: %s}",
    "terminals: {username: dev, password: %s}",
    "terminals: {username: dev, password: x, known: {T1: {key: %s}}}",
    "web: {username: a, password: %s}",
    "store: {photo_key: %s}",
    "store: {url: %s}",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from(SECRET_KEYS), st.integers(10**9, 10**12), st.sampled_from(["%d", "[%d]", "{a: %d}", '"%d\\u0007"'])
)
def test_no_fault_shows_a_secret(tmp_path: Path, text: str, value: int, form: str) -> None:
    faults = faults_of(tmp_path, text % (form % value))
    assert faults
    assert not any(str(value) in fault for fault in faults)


def test_settings_do_not_print_secrets(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        'terminals: {username: dev, password: hunter2}\nstore: {url: "postgresql://me:hunter2@db/x", photo_key: hunter2}',
    )
    assert "hunter2" not in repr(loaded)
    assert loaded.store.shown_url == "postgresql://me@db/x"
