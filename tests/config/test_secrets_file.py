"""The first start creates the secrets file once, readable only by its owner."""

import os
import stat
from pathlib import Path

import pytest

from bridge.config.load import load_settings
from bridge.config.secrets_file import ensure_secrets_file, main

CONFIGURATION = "terminals: {username: dev, password: !secret terminal_password}"


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIGURATION)
    monkeypatch.setattr("sys.argv", ["secrets_file", str(file)])
    return file


def test_it_is_created_once_and_only_its_owner_can_read_it(configuration: Path) -> None:
    before = os.umask(0)
    try:
        made = ensure_secrets_file(configuration)
    finally:
        os.umask(before)
    assert made is not None
    assert stat.S_IMODE((configuration.parent / "secrets.yaml").stat().st_mode) == 0o600
    assert ensure_secrets_file(configuration) is None
    assert made.terminal_password.reveal() in (configuration.parent / "secrets.yaml").read_text()
    assert {file.name for file in configuration.parent.iterdir()} == {"config.yaml", "secrets.yaml"}


def test_each_password_is_different_hard_to_guess_and_easy_to_type(tmp_path: Path) -> None:
    passwords = set()
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        made = ensure_secrets_file(tmp_path / str(number) / "config.yaml")
        assert made is not None
        passwords.add(made.terminal_password.reveal())
    assert len(passwords) == 20
    assert {len(password) for password in passwords} == {18}
    assert not set("".join(passwords)) & set("il1o0")


def test_the_configuration_uses_it(configuration: Path) -> None:
    made = ensure_secrets_file(configuration)
    assert made is not None
    assert load_settings(configuration, {}).terminals.password == made.terminal_password


def test_it_never_replaces_an_existing_file(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (configuration.parent / "secrets.yaml").write_text("mine: x\n")
    assert ensure_secrets_file(configuration) is None
    # Also if the other file appears after the check.
    monkeypatch.setattr("os.path.lexists", lambda _: False)
    assert ensure_secrets_file(configuration) is None
    assert (configuration.parent / "secrets.yaml").read_text() == "mine: x\n"
    assert len(list(configuration.parent.iterdir())) == 2


def test_no_partial_file_is_left_after_an_error(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        ensure_secrets_file(configuration)
    assert [file.name for file in configuration.parent.iterdir()] == ["config.yaml"]


def test_the_text_to_enter_is_shown_once(configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    shown = capsys.readouterr().err
    password = load_settings(configuration, {}).terminals.password
    assert password is not None
    assert f"password  {password.reveal()}\n" in shown
    assert "server    ws://THIS-MACHINE:8765/devs/\n" in shown
    assert "user      dev\n" in shown
    assert main() == 0
    assert capsys.readouterr().err == ""


def test_the_text_to_enter_follows_the_configuration(configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration.write_text("terminals: {username: me, port: 9000, path: /x, password: !secret terminal_password}")
    main()
    shown = capsys.readouterr().err
    assert "server    ws://THIS-MACHINE:9000/x/\n" in shown
    assert "user      me\n" in shown


def test_a_password_that_is_not_used_is_not_shown(configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration.write_text("terminals: {username: dev, password: own}")
    main()
    assert capsys.readouterr().err.strip() == (
        "secrets.yaml was created with a random terminal_password, but config.yaml does not use it."
    )


def test_a_folder_that_cannot_be_written_is_reported(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = configuration.parent / "nowhere"
    monkeypatch.setattr("sys.argv", ["secrets_file", str(nowhere / "config.yaml")])
    assert main() == 1
    assert capsys.readouterr().err == f"{nowhere}/secrets.yaml: cannot be created: No such file or directory\n"
