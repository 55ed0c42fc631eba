# ruff: noqa: E501  a table reads best with one row a line
"""A configuration is loaded completely, or all its faults are reported with file, line and key."""

from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config.checks import Nullable
from bridge.config.faults import ConfigurationError
from bridge.config.load import load_settings
from bridge.config.schema import KNOWN_TERMINAL, TOKEN, Section, configuration_schema
from bridge.config.settings import MqttTlsSettings, ServerTlsSettings
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from tests.config.loading import CREDENTIALS, faults_of, load

ROOT = Path(__file__).parents[2]


def test_the_shipped_configuration_has_the_defaults_of_the_schema(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text('terminal_password: "secret"\n')
    assert load(tmp_path, (ROOT / "config.yaml").read_text()) == load(tmp_path, CREDENTIALS)


def keys_of(section: Section, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, (check, _) in section.keys.items():
        found.add((*above, name))
        inner = check.inner if isinstance(check, Nullable) else check
        if isinstance(inner, Section) and name != "tls":
            found |= keys_of(inner, (*above, name))
    return found


def test_the_shipped_configuration_contains_every_key(tmp_path: Path) -> None:
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
    for line, keys in (
        (text.partition("  tls: ")[2].partition("\n")[0], MqttTlsSettings.__slots__),
        (text.rpartition("  tls: ")[2].partition("\n")[0], ServerTlsSettings.__slots__),
    ):
        assert all(f"{key}: " in line for key in keys)
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
        "config.yaml:1: mqtt.client_id: must be text, but YAML reads this as a number: put it in quotes",
    ),
    (
        "mqtt: {host: 2026-11-24}",
        "config.yaml:1: mqtt.host: must be text, but YAML reads this as a date: put it in quotes",
    ),
    ("mqtt: {protocol: 5}", "config.yaml:1: mqtt.protocol: must be one of '5', '3.1.1', in quotes"),
    (
        "mqtt: {base_topic: a/#}",
        "config.yaml:1: mqtt.base_topic: must be a topic without + and #, and must not begin with / or $ or end with /",
    ),
    ("mqtt:\n  tls: {ca: nope.pem}", "config.yaml:2: mqtt.tls.ca: there is no such file"),
    (f"mqtt:\n  tls: {{ca: {'x' * 300}}}", "config.yaml:2: mqtt.tls.ca: the file cannot be read: File name too long"),
    ("mqtt:\n  tls: {key: config.yaml}", "config.yaml:2: mqtt.tls.certificate: must be given if key is given"),
    ("mqtt: {password: hunter2}", "config.yaml:1: mqtt.username: must be given if password is given"),
    (
        "mqtt: {host: 'mqtt://broker'}",
        "config.yaml:1: mqtt.host: must be only a name or an address, without scheme, port or brackets",
    ),
    (
        "mqtt: {host: 'broker:1883'}",
        "config.yaml:1: mqtt.host: must be only a name or an address, without scheme, port or brackets",
    ),
    (
        "mqtt: {host: 2026-99-99}",
        "config.yaml:1: mqtt.host: YAML reads this as a date, but it is not a valid one: put it in quotes",
    ),
    ("mqtt:\n  host broker.example", "config.yaml:1: mqtt: must be a section: the colon after 'host' is missing"),
    ("mqtt: 7", "config.yaml:1: mqtt: must be a section: write its keys below it, one a line"),
    ("homeassistant: {discovery: 1}", "config.yaml:1: homeassistant.discovery: must be true or false"),
    ("commands: {deadline: 0.5}", "config.yaml:1: commands.deadline: must be a number of seconds from 1 to 60"),
    (
        f"commands: {{deadline: 1{'0' * 400}}}",
        "config.yaml:1: commands.deadline: must be a number of seconds from 1 to 60",
    ),
    ("commands: {deadline: .nan}", "config.yaml:1: commands.deadline: must be a number of seconds from 1 to 60"),
    (
        "photos: {size: 2000x10}",
        'config.yaml:1: photos.size: must be a width and a height of 32 to 1080 pixels, as "640x480"',
    ),
    ("photos: {folders: /media}", "config.yaml:1: photos.folders: must be a list of folders, as [one, two]"),
    ("photos: {folders: [nowhere]}", "config.yaml:1: photos.folders.0: there is no such folder"),
    (
        "store: {url: 'sqlite:///:memory:'}",
        "config.yaml:1: store.url: must be a file: a database in memory is lost when the bridge stops",
    ),
    ("store: {url: 'mysql://x'}", "config.yaml:1: store.url: must begin with sqlite:/// or postgresql://"),
    (
        "web: {host: 0.0.0.0}",
        "config.yaml:1: web.username: must be given, with password: other machines can reach 0.0.0.0",
    ),
    (
        "web: {host: '::', ingress: x}",
        "config.yaml:1: web.ingress: must be an address or a network, as 10.0.0.7 or 10.0.0.0/24",
    ),
    (
        "web: {username: 'ad:min', password: x}",
        "config.yaml:1: web.username: must not contain a colon: HTTP Basic ends the name there",
    ),
    ("web: {username: admin}", "config.yaml:1: web.password: must be given if username is given"),
    (
        "web: {host: 0.0.0.0, tokens: {robot: {hash: h, role: operator}}}",
        "config.yaml:1: web.username: must be given, with password: other machines can reach 0.0.0.0",
    ),
    (
        "web: {url: 'http://[::1'}",
        "config.yaml:1: web.url: must be an address like https://doors.example.org, without a user",
    ),
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
        'config.yaml:1: logging.level: there is no secrets.yaml: create it beside this file, with a line `nope: "…"`',
    ),
    (
        "logging: {level: !env_var NOPE}",
        "config.yaml:1: logging.level: there is no environment variable NOPE: set it, or add a default behind it",
    ),
    (
        "logging: {level: !python/name x}",
        "config.yaml:1: logging.level: unknown tag (known: !secret and !env_var); text that begins with ! must be in quotes",
    ),
]


@pytest.mark.parametrize(("text", "fault"), WRONG)
def test_a_fault_names_line_key_and_what_is_allowed(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, f"{text}\n{CREDENTIALS}") == [fault]


WRONG_TERMINALS: list[tuple[str, str]] = [
    ("known: {12345: {}}", "terminals.known.12345: YAML reads this key as a number: put it in quotes"),
    ("known: {0123: {}}", "terminals.known.0123: YAML reads this key as a number: put it in quotes"),
    ("known: {a b: {}}", "terminals.known.a b: an SN has 1 to 64 letters, digits, _ and -"),
    ("known: {T1: {groups: [all]}}", 'terminals.known.T1.groups.0: "all" is the group of every terminal: choose another name'),
    ("known: {T1: {nmae: x}}", "terminals.known.T1.nmae: unknown key 'nmae' (did you mean 'name'?)"),
    ("known: {T1: {username: 'd:ev', password: x}}", "terminals.known.T1.username: must not contain a colon: HTTP Basic ends the name there"),
    ("known: {T1: {username: x}}", "terminals.known.T1.password: must be given if username is given"),
    ("known: {T1: {}, T1: {}}", "terminals.known.T1: this key exists already, in line 1: remove one of them"),
    ("known: {T1: {password: 123}}", "terminals.known.T1.password: must be text, but YAML reads this as a number: put it in quotes"),
    ("trusted_proxies: [proxy]", "terminals.trusted_proxies.0: must be an address or a network, as 10.0.0.7 or 10.0.0.0/24"),
    ("path: devs", "terminals.path: must begin with / and contain only letters, digits and . _ ~ - /"),
    ("admit: all", "terminals.admit: must be one of 'known', 'any'"),
    ("idle_timeout: 1", "terminals.idle_timeout: must be a number of seconds from 5 to 3600"),
    ("tls: {certificate: config.yaml}", "terminals.tls.key: must be given"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), WRONG_TERMINALS)
def test_a_fault_of_the_section_terminals_names_its_key(tmp_path: Path, text: str, fault: str) -> None:
    faults = faults_of(tmp_path, f"terminals: {{username: dev, password: secret, {text}}}")
    assert faults == [f"config.yaml:1: {fault}"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "config.yaml:1: terminals.password: must be given, with username: terminals log in with them"),
        (
            "terminals:\n  known:\n    T1: {}",
            "config.yaml:3: terminals.known.T1: has no username and password: give it its own, or give terminals.username and terminals.password",
        ),
        (
            "terminals:\n  admit: any\n  known:\n    T1: {username: u, password: p}",
            "config.yaml:1: terminals.password: must be given, with username: terminals log in with them",
        ),
    ],
)
def test_missing_credentials_for_terminals_are_a_fault(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, text) == [fault]


def test_behind_ingress_no_login_is_needed(tmp_path: Path) -> None:
    assert load(tmp_path, CREDENTIALS + "web: {host: 0.0.0.0, ingress: 172.30.32.2}").web.username is None


def test_credentials_of_each_terminal_are_enough(tmp_path: Path) -> None:
    loaded = load(tmp_path, "terminals: {known: {T1: {username: u, password: p}}}")
    assert loaded.terminals.username is None


def test_all_faults_are_reported_together_by_line(tmp_path: Path) -> None:
    text = """\
logging:
  level: loud
mqtt:
  port: 0
  host: 7
  pasword: x
  password: y
web:
  host: 0.0.0.0
  port: x
terminals:
  port: x
  known:
    T1: {nmae: x, groups: [all, "a b"]}
    a b: {area: 7}
"""
    assert [fault.split(": ")[:2] for fault in faults_of(tmp_path, text, {"FACEBRIDGE_AUDIT": "7"})] == [
        ["FACEBRIDGE_AUDIT", "audit"],
        ["config.yaml:2", "logging.level"],
        ["config.yaml:3", "mqtt.username"],
        ["config.yaml:4", "mqtt.port"],
        ["config.yaml:5", "mqtt.host"],
        ["config.yaml:6", "mqtt.pasword"],
        ["config.yaml:8", "web.username"],
        ["config.yaml:10", "web.port"],
        ["config.yaml:12", "terminals.port"],
        ["config.yaml:14", "terminals.known.T1.groups.0"],
        ["config.yaml:14", "terminals.known.T1.groups.1"],
        ["config.yaml:14", "terminals.known.T1.nmae"],
        ["config.yaml:15", "terminals.known.a b"],
        ["config.yaml:15", "terminals.known.a b.area"],
    ]


def test_missing_credentials_are_reported_with_other_faults(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "terminals:\n  port: x\nmqtt: {port: 0}\n") == [
        "config.yaml:1: terminals.password: must be given, with username: terminals log in with them",
        "config.yaml:2: terminals.port: must be a whole number from 0 to 65535",
        "config.yaml:3: mqtt.port: must be a whole number from 1 to 65535",
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("terminals: {known: !secret nope}", "terminals.known"),
        ("terminals: {known: {T1: !secret nope}}", "terminals.known.T1"),
        ("terminals: {username: dev, password: !secret nope}", "terminals.password"),
        (f"{CREDENTIALS}web: {{host: !env_var NOPE}}", "web.host"),
        (f"{CREDENTIALS}photos: {{folders: [!secret nope]}}", "photos.folders.0"),
        (f"{CREDENTIALS}mqtt: !secret nope", "mqtt"),
    ],
)
def test_an_unreadable_value_has_only_one_fault(tmp_path: Path, text: str, key: str) -> None:
    assert [fault.split(": ")[1] for fault in faults_of(tmp_path, text)] == [key]


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.binary(max_size=4)
    | st.text(max_size=8)
    | st.sampled_from(
        ["/", "a/b", "::1", "::1%eth0", "[::1", "http://[", "sqlite:///x", "640x480", "9" * 300, "config.yaml"]
    )
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
)
KEYS = sorted(
    keys_of(configuration_schema(ROOT)) | {("terminals", "known", "T1", "groups"), ("web", "tokens", "robot", "hash")}
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, min_size=1, max_size=4))
def test_any_value_of_a_key_raises_only_configuration_errors(
    tmp_path: Path, values: dict[tuple[str, ...], object]
) -> None:
    configuration: dict[str, Any] = {}
    for path in sorted(values, key=len):
        level = configuration
        for part in path[:-1]:
            level[part] = level[part] if isinstance(level.get(part), dict) else {}
            level = level[part]
        level[path[-1]] = values[path]
    with suppress(ConfigurationError):
        load(tmp_path, yaml.safe_dump(configuration))


def test_an_absolute_store_stays_where_it_is(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"{CREDENTIALS}store: {{url: 'sqlite:////srv/store.db'}}")
    assert loaded.store.url == Secret("sqlite:////srv/store.db")
    assert loaded.store.shown_url == "sqlite:////srv/store.db"


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load_settings(tmp_path / "nowhere.yaml", {})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("other: x", "secrets.yaml has no 'name': add a line `name: \"…\"`"),
        ("name: 123456", "secrets.yaml: name must be text: put it in quotes"),
        ("- name", "secrets.yaml must contain lines like `name: value`"),
        ("name: [", "!secret name: secrets.yaml:1: is not valid YAML"),
        (
            "name: a\nname: b",
            "!secret name: secrets.yaml:2: name: this key exists already, in line 1: remove one of them",
        ),
    ],
)
def test_a_missing_secret_is_reported_where_it_is_used(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "secrets.yaml").write_text(content)
    faults = faults_of(tmp_path, "terminals:\n  username: dev\n  password: !secret name")
    assert len(faults) == 1
    assert faults[0].startswith(f"config.yaml:3: terminals.password: {fault}")


@pytest.mark.parametrize(
    ("text", "line", "explanation"),
    [
        ("mqtt:\n\thost: x\n", 2, "a tab: indent with spaces"),
        ("mqtt:\n  host: x\n\tport: 1883\n", 3, "a tab: indent with spaces"),
        ("mqtt:\n  host x\n  port: 1883\n", 3, "the line above has no colon"),
        ("mqtt\n  host: x\n", 2, "the line above has no colon"),
        ("mqtt:\n  host: x\n  port\n", 4, "a colon is missing: write `key: value`"),
        ("mqtt:\n  host: x\n port: 1883\n", 3, "wrong indentation"),
        ("mqtt:\n  password: a: b\n", 2, "a text that contains `: ` must be in quotes"),
        ('mqtt:\n  password: "a\n', 3, "a quote or bracket is not closed"),
        ("photos: {folders: [/media}\n", 1, "a list in brackets is not closed"),
    ],
)
def test_faults_of_yaml_are_explained_without_terms_of_the_parser(
    tmp_path: Path, text: str, line: int, explanation: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, {})
    (fault,) = caught.value.faults
    assert explanation in fault.message
    assert fault.line == line
    assert not {"token", "block", "scalar", "mapping"} & set(fault.message.split())


@pytest.mark.parametrize("password", ["\u201csecret\u201d", "\u2018secret\u2019", "\u201esecret\u201c"])
def test_curly_quotes_around_a_password_are_a_fault(tmp_path: Path, password: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"terminals:\n  username: dev\n  password: {password}\n")
    with pytest.raises(ConfigurationError, match="curly quotes") as caught:
        load_settings(file, {})
    assert "secret" not in str(caught.value)


def test_a_missing_configuration_names_its_folder_and_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path / "config.yaml", {})
    assert f"there is no such file in {tmp_path}: name the configuration with -c FILE" in str(caught.value)
