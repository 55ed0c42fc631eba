"""The first start's secrets: made once, for the owner only."""

import os
import stat
from pathlib import Path

import pytest

from bridge.config.load import load_settings
from bridge.config.secrets_file import ensure_secrets_file, main
from bridge.model.secret import Secret


def test_it_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        password = ensure_secrets_file(tmp_path / "config.yaml")
    finally:
        os.umask(before)
    assert password is not None
    assert stat.S_IMODE((tmp_path / "secrets.yaml").stat().st_mode) == 0o600
    assert ensure_secrets_file(tmp_path / "config.yaml") is None
    assert password in (tmp_path / "secrets.yaml").read_text()


def test_the_configuration_reads_it(tmp_path: Path) -> None:
    password = ensure_secrets_file(tmp_path / "config.yaml")
    assert password is not None
    (tmp_path / "config.yaml").write_text("terminals: {username: dev, password: !secret terminal_password}")
    assert load_settings(tmp_path / "config.yaml", {}).terminals.password == Secret(password)


def test_what_to_enter_is_shown_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["secrets_file", str(tmp_path / "config.yaml")])
    main()
    assert "password  " in capsys.readouterr().err
    main()
    assert capsys.readouterr().err == ""
