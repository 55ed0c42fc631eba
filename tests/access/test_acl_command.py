"""`facebridge acl`: roles, formats, limits to terminals, and user names that could add rules."""

import shlex
from pathlib import Path

import orjson
import pytest
import yaml
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.core.commands import COMMANDS
from bridge.mqtt.access.roles import PUBLISHERS, ROLE_DESCRIPTIONS, Role
from tests.access.shipped_broker import EXAMPLE, USERS, acl, sections


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(
        "mqtt: {base_topic: house/doors}\nhomeassistant: {prefix: ha}\nterminals: {username: dev, password: secret}\n"
    )
    return file


def run(settings: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["acl", "-c", str(settings), *arguments])


def test_every_command_has_roles_and_every_role_a_description() -> None:
    assert set(PUBLISHERS) == {command.name for command in COMMANDS}
    assert all(Role.ADMIN in roles and Role.WATCHER not in roles and roles for roles in PUBLISHERS.values())
    assert set(ROLE_DESCRIPTIONS) == set(Role)


def test_the_shipped_acl_file_is_the_output_of_the_command(tmp_path: Path) -> None:
    assert [shlex.split(command)[1] for command in sections()] == list(USERS)
    for command, text in sections().items():
        assert acl(tmp_path, *shlex.split(command)) == text


def test_topics_follow_the_configuration(settings: Path) -> None:
    output = run(settings, "--user", "b", "--role", "bridge").output
    assert "topic write house/doors/bridge/availability\n" in output
    assert "topic write house/doors-replies/+/#\n" in output
    assert "topic write ha/device/+/config\n" in output
    assert "topic read ha/status\ntopic read homeassistant/status\n" in output


def test_a_role_limited_to_some_terminals(settings: Path) -> None:
    result = run(settings, "--user", "p", "--role", "admin", "--terminal", "T1", "--group", "lobby", "--terminal", "T1")
    lines = result.output.splitlines()
    assert lines[0] == "# facebridge acl --user p --role admin --terminal T1 --group lobby"
    assert lines.count("topic write house/doors/terminal/T1/open/set") == 1
    assert "topic write house/doors/group/lobby/open/set" in lines
    assert not [line for line in lines if "+" in line or "admit" in line or "forget" in line or "event" in line]


def test_the_rules_of_several_roles_add_up(settings: Path) -> None:
    one, other, both = (
        set(run(settings, "--user", "p", *(f"--role={role}" for role in roles)).output.splitlines()[1:])
        for roles in (["operator"], ["enroller"], ["operator", "enroller"])
    )
    assert both == one | other


def test_dynsec_creates_user_and_role(settings: Path) -> None:
    result = run(settings, "--user", "p", "--role", "operator", "--terminal", "T1", "--format", "dynsec")
    commands = orjson.loads(result.output)["commands"]
    assert [one["command"] for one in commands] == ["createRole", "modifyRole", "createClient", "addClientRole"]
    assert {
        "acltype": "publishClientSend",
        "topic": "house/doors/terminal/T1/open/set",
        "priority": 0,
        "allow": True,
    } in (commands[1]["acls"])


@pytest.mark.parametrize("user", ["", "a b", "#", "+", "a/b", "a\ntopic write #", "x" * 65, "%u", "ä", "a\x00"])
@pytest.mark.parametrize("form", ["acl_file", "dynsec"])
def test_a_user_name_that_could_add_rules_is_refused(settings: Path, user: str, form: str) -> None:
    result = run(settings, "--user", user, "--role", "watcher", "--format", form)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "must be 1 to 64 letters, digits and _ . @ -" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--role", "watcher"),
        ("--user", "p"),
        ("--user", "p", "--role", "cleaner"),
        ("--user", "p", "--role", "operator", "--terminal", "+"),
        ("--user", "p", "--role", "operator", "--group", "a/#"),
        ("--user", "p", "--role", "bridge", "--terminal", "T1"),
        ("--user", "p", "--role", "home_assistant", "--group", "lobby"),
    ],
)
def test_wrong_usage(settings: Path, arguments: tuple[str, ...]) -> None:
    result = run(settings, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_the_compose_file_mounts_the_shipped_files() -> None:
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    broker, bridge = compose["services"]["broker"], compose["services"]["bridge"]
    assert broker["image"].partition(":")[2].count(".") == 2
    named_volumes = set(compose["volumes"])
    for service in (broker, bridge):
        for volume in service["volumes"]:
            source, _, rest = volume.partition(":")
            if source.startswith("./"):
                assert (EXAMPLE / source).is_dir()
                assert rest.endswith(":ro")
            else:
                assert source in named_volumes
    assert broker["working_dir"] == "/mosquitto"
    assert (EXAMPLE / bridge["build"] / "Dockerfile").is_file()
    settings = (EXAMPLE / "facebridge" / "config.yaml").read_text()
    assert f"host: {next(iter(compose['services']))}\n" in settings
    assert bridge["environment"]["FACEBRIDGE_CONFIG"] == "/config/config.yaml"


def test_the_help_has_readable_lines() -> None:
    shown = CliRunner().invoke(main, ["acl", "--help"]).output
    assert "\\b" not in shown
    assert "  acl_file: append the output" in shown
