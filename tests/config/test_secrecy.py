"""No fault and no printed setting shows a secret."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.config.faults import ConfigurationError
from bridge.config.settings import StoreSettings
from bridge.model.secret import Secret
from tests.config.loading import faults_of, load

SECRET = "hunter2hunter2"

SECRET_KEYS = {
    "mqtt.password": "terminals: {{username: dev, password: x}}\nmqtt:\n  username: u\n  password: {}\n",
    "terminals.password": "terminals:\n  username: dev\n  password: {}\n",
    "terminals.known.T1.password": "terminals:\n  known:\n    T1:\n      username: u\n      password: {}\n",
    "terminals.known.T1.key": "terminals:\n  username: u\n  password: x\n  known:\n    T1:\n      key: {}\n",
    "store.url": "terminals: {{username: dev, password: x}}\nstore:\n  url: {}\n",
    "store.photo_key": "terminals: {{username: dev, password: x}}\nstore:\n  photo_key: {}\n",
    "web.password": "terminals: {{username: dev, password: x}}\nweb:\n  username: u\n  password: {}\n",
    "web.tokens.robot.hash": (
        "terminals: {{username: dev, password: x}}\nweb:\n  tokens:\n    robot:\n      role: admin\n      hash: {}\n"
    ),
}

WRONG_FORMS = [
    "[{}]", "{{a: {}}}", "{{{}: a}}", "{{{}}}", "{}: x", "x: {}", "- {}", "? {}", "[{}", "{{{}", '"{}', "'{}", '"a" {}',
    '"{}\\x07"', '"\\q{}"', "*{}", "@{}", "`{}", "%{}", "|{}", ">{}", "&a x\n  photo: &a {}", "!{}", "!{}!x", "!{}[x",
    "!<{}", "!<{}> x", "!!{} x", "!!int {}", "!!bool {}", "!!binary {}", "!!timestamp {}",
]  # fmt: skip


def faults_if_any(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    try:
        load(folder, text, environment)
    except ConfigurationError as error:
        return [str(fault) for fault in error.faults]
    return []


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("form", WRONG_FORMS)
def test_no_fault_shows_a_secret_of_a_wrong_form(tmp_path: Path, key: str, form: str) -> None:
    faults = faults_of(tmp_path, SECRET_KEYS[key].format(form.format(SECRET)))
    assert not any(SECRET in fault for fault in faults)


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("value", ["90210902109021", "9021.9021", "0x90219021", "9021-12-31", "9021-99-99"])
def test_no_fault_shows_a_secret_that_yaml_does_not_read_as_text(tmp_path: Path, key: str, value: str) -> None:
    faults = faults_of(tmp_path, SECRET_KEYS[key].format(value))
    assert any("put it in quotes" in fault for fault in faults)
    assert not any("9021" in fault or str(0x90219021) in fault for fault in faults)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(sorted(SECRET_KEYS)),
    before=st.text("!&*|>%@`'\"#[]{},:?-=<~\\ a", max_size=4),
    after=st.text("!&*|>%@`'\"#[]{},:?-=<~\\ a", max_size=4),
)
def test_no_fault_shows_a_secret_however_it_is_written(tmp_path: Path, key: str, before: str, after: str) -> None:
    faults = faults_if_any(tmp_path, SECRET_KEYS[key].format(f"{before}{SECRET}{after}"))
    assert not any(SECRET in fault for fault in faults)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(sorted(SECRET_KEYS)),
    before=st.text(max_size=4).filter(lambda text: "\0" not in text),
    after=st.text("!&*|>%@`'\"#[]{},:?-=<~\\ \n\t\x07\udcff", max_size=4),
)
def test_no_fault_shows_a_secret_from_the_environment(tmp_path: Path, key: str, before: str, after: str) -> None:
    variable = "FACEBRIDGE_" + key.replace(".", "__").upper()
    value = f"{before}{SECRET}{after}"
    text = SECRET_KEYS[key].format("x")
    faults = faults_if_any(tmp_path, text, {variable: value})
    faults += faults_if_any(tmp_path, SECRET_KEYS[key].format("!env_var HIDDEN"), {"HIDDEN": value})
    assert not any(SECRET in fault for fault in faults)


@pytest.mark.parametrize(
    "content", ["name: {}: x", "name: *{}", "name: !{} x", "name: [{}]", "{}", "name: 1{}\nname: x"]
)
def test_no_fault_shows_the_content_of_the_secrets_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "secrets.yaml").write_text(content.format(SECRET))
    faults = faults_of(tmp_path, "terminals:\n  username: dev\n  password: !secret name")
    assert not any(SECRET in fault for fault in faults)


def test_a_secret_cannot_be_a_key(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text(f"name: {SECRET}")
    faults = faults_of(tmp_path, "terminals: {username: dev, password: x}\nmqtt: {!secret name : x}")
    assert faults == ["config.yaml:2: mqtt: a key must be text, without a tag"]


def test_settings_do_not_print_secrets(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        f"terminals: {{username: dev, password: {SECRET}, known: {{T1: {{key: {SECRET}}}}}}}\n"
        f'store: {{url: "postgresql://me:{SECRET}@db/x", photo_key: [{SECRET + "A" * 29}=]}}\n'
        f"web: {{tokens: {{robot: {{hash: {SECRET}, role: admin}}}}}}\n",
    )
    assert SECRET not in repr(loaded)
    assert loaded.store.shown_url == "postgresql://me@db/x"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:{}@db/x", "postgresql://me@db/x"),
        ("postgresql://me:{}@db:5432/x?a=b", "postgresql://me@db:5432/x"),
        ("postgresql://db:5432/x?user=me&password={}", "postgresql://db:5432/x"),
        ("postgresql://me@db/x?password={}", "postgresql://me@db/x"),
    ],
)
@given(password=st.text(min_size=1))
@example(password="a@b/c?d:e")
def test_a_shown_url_shows_no_password(url: str, shown: str, password: str) -> None:
    settings = StoreSettings(url=Secret(url.format(quote(password, safe=""))), photo_key=())
    assert settings.shown_url == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}/?@db/x", "postgresql://me@db/x"),
        (f"postgresql://me:a@{SECRET}@db/x", "postgresql://me@db/x"),
        (f"postgresql://a/b:{SECRET}@db/x", "postgresql://db/x"),
        (f"postgresql://:{SECRET}@db/x", "postgresql://db/x"),
        ("postgresql://db", "postgresql://db"),
        ("sqlite:////srv/a:b@c/x.db", "sqlite:////srv/a:b@c/x.db"),
    ],
)
def test_a_shown_url_hides_a_password_that_is_not_escaped(url: str, shown: str) -> None:
    assert StoreSettings(url=Secret(url), photo_key=()).shown_url == shown
