"""Findings about the configuration, the clock and the time zone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from bridge.config.load import load_settings
from bridge.doctor.clock import (
    evaluate_audit_time,
    evaluate_clock,
    evaluate_expired_presses,
    evaluate_timezone,
    is_synchronised,
)
from bridge.doctor.configuration import evaluate_configuration
from bridge.net.passwords import hash_password
from tests.support.bridge_process import configuration

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
LONG = hash_password("a long one indeed")
GOOD: Mapping[str, Any] = {
    "mqtt": {"username": "facebridge"},
    "terminals": {"password": LONG},
    "store": {"photo_key": "A" * 43 + "="},
    "commands": {"deadline": 5},
}


def evaluate(folder: Path, **sections: Any) -> dict[str, str]:
    file = folder / "config.yaml"
    merged = {name: {**GOOD.get(name, {}), **sections.get(name, {})} for name in {*GOOD, *sections}}
    file.write_text(yaml.safe_dump(configuration(1883, **merged)))
    file.chmod(0o600)
    findings = evaluate_configuration(load_settings(file, {}), file, NOW)
    return {one.code: f"{one.what} → {one.to_do}" for one in findings}


def test_a_good_configuration(tmp_path: Path) -> None:
    assert list(evaluate(tmp_path)) == ["configuration_ok"]


@pytest.mark.parametrize(
    ("sections", "codes"),
    [
        ({"mqtt": {"host": None}}, {"broker_embedded"}),
        ({"mqtt": {"host": "broker.example"}}, {"mqtt_plain"}),
        ({"mqtt": {"host": "broker.example", "tls": {"verify": False}}}, {"tls_not_verified"}),
        ({"mqtt": {"username": None}}, {"mqtt_anonymous"}),
        ({"mqtt": {"base_topic": "homeassistant/doors"}}, {"base_topic_in_discovery"}),
        ({"mqtt": {"base_topic": "ha"}, "homeassistant": {"prefix": "ha"}}, {"base_topic_in_discovery"}),
        ({"terminals": {"password": "short"}}, {"terminal_password_short", "terminal_password_plain"}),
        ({"terminals": {"password": "long but plain"}}, {"terminal_password_plain"}),
        (
            {"terminals": {"known": {"T1": {"username": "a", "password": "b"}}}},
            {"terminal_password_short", "terminal_password_plain"},
        ),
        ({"terminals": {"admit": "any"}}, {"admit_any"}),
        ({"commands": {"deadline": 4.5}}, {"deadline_short"}),
        ({"web": {"host": "0.0.0.0", "username": "a", "password": LONG}}, {"web_plain_http"}),
        ({"web": {"host": "0.0.0.0", "username": "a", "password": LONG, "url": "https://a.example"}}, None),
        ({"web": {"url": "https://a.example"}}, {"web_open_behind_proxy"}),
        ({"web": {"trusted_proxies": ["127.0.0.1"]}}, {"web_open_behind_proxy"}),
        ({"web": {"url": "http://localhost:8099/"}}, None),
        ({"web": {"url": "https://a.example", "username": "a", "password": LONG}}, None),
        ({"store": {"photo_key": None}}, {"photos_unencrypted"}),
    ],
)
def test_unwise_settings(tmp_path: Path, sections: dict[str, Any], codes: set[str] | None) -> None:
    assert set(evaluate(tmp_path, **sections)) - {"config_readable"} == (codes or {"configuration_ok"})


def test_findings_hold_no_secret(tmp_path: Path) -> None:
    findings = evaluate(tmp_path, terminals={"password": "pa55word"}, mqtt={"username": "a", "password": "t0psecret"})
    assert "pa55word" not in str(findings)
    assert "t0psecret" not in str(findings)


def test_files_that_other_users_may_read(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("terminal_password: x")
    (tmp_path / "secrets.yaml").chmod(0o640)
    assert set(evaluate(tmp_path)) == {"secrets_readable"}
    (tmp_path / "secrets.yaml").chmod(0o600)
    assert set(evaluate(tmp_path)) == {"configuration_ok"}


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("password: 123 is plain", True),
        ("known: {T1: {username: a, password: 'b c'}}", True),
        ("password: !secret terminal_password", False),
        ("password: null", False),
        ("password:", False),
        ("# password: old", False),
        ("password: $argon2id$v=19$x", False),
    ],
)
def test_a_configuration_with_a_literal_password(tmp_path: Path, text: str, readable: bool) -> None:
    evaluate(tmp_path)
    settings = load_settings(tmp_path / "config.yaml", {})
    file = tmp_path / "other.yaml"
    file.write_text(f"terminals:\n  {text}\n")
    file.chmod(0o644)
    found = {one.code for one in evaluate_configuration(settings, file, NOW)}
    assert ("config_readable" in found) is readable


def test_a_missing_photo_folder(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(configuration(1883, photos={"folders": [str(folder)]})))
    settings = load_settings(file, {})
    folder.rmdir()
    assert "photo_folder_unusable" in {one.code for one in evaluate_configuration(settings, file, NOW)}


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (NOW + timedelta(days=60), None),
        (NOW + timedelta(days=10), "certificate_expires"),
        (NOW - timedelta(days=1), "certificate_expired"),
    ],
)
def test_expiring_certificates(tmp_path: Path, ends: datetime, code: str | None) -> None:
    certificate = trustme.CA().issue_cert("door.example", not_after=ends)
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "door.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "door.key")
    findings = evaluate(tmp_path, terminals={"tls": {"certificate": "door.pem", "key": "door.key"}})
    assert set(findings) == {code or "configuration_ok"}
    (tmp_path / "door.pem").write_text("nothing")
    findings = evaluate(tmp_path, terminals={"tls": {"certificate": "door.pem", "key": "door.key"}})
    assert set(findings) == {"certificate_unusable"}


def test_clocks() -> None:
    def codes(synchronised: bool | None, there: datetime) -> set[str]:
        return {one.code for one in evaluate_clock(synchronised=synchronised, now=NOW, others={"the page": there})}

    assert codes(True, NOW + timedelta(seconds=2)) == {"clock_ok"}
    assert codes(None, NOW) == {"clock_unseen"}
    assert codes(False, NOW - timedelta(minutes=1)) == {"clock_unsynchronised", "clock_differs"}
    (ahead,) = evaluate_clock(synchronised=True, now=NOW, others={"the page": NOW - timedelta(seconds=90)})
    assert "90 s ahead of the clock of the page" in ahead.what
    assert is_synchronised() in (True, False, None)


def test_presses_whose_senders_have_another_clock() -> None:
    assert list(evaluate_expired_presses(0)) == []
    (finding,) = evaluate_expired_presses(7)
    assert finding.code == "clock_of_senders"
    assert "7 presses" in finding.what


def test_a_clock_set_back() -> None:
    assert [*evaluate_audit_time(NOW, None), *evaluate_audit_time(NOW, NOW)] == []
    assert [one.code for one in evaluate_audit_time(NOW, NOW + timedelta(hours=1))] == ["clock_behind_audit"]


def test_time_zones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import time

    def codes(zone: str | None) -> list[str]:
        with monkeypatch.context() as patch:
            environment = {} if zone is None else {"TZ": zone}
            patch.setenv("TZ", zone or "UTC")
            time.tzset()
            return [one.code for one in evaluate_timezone(environment, tmp_path / "localtime")]

    try:
        assert codes("Europe/Nowhere") == ["timezone_unknown"]
        assert codes("UTC") == codes(None) == ["timezone_utc"]
        assert codes("Asia/Shanghai") == codes("Europe/London") == codes("CET-1CEST") == []
    finally:
        time.tzset()
