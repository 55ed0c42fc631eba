"""What is valid in the configuration, and unwise."""

import os
import re
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from bridge.config.load import SECRETS_FILE
from bridge.config.settings import Settings
from bridge.doctor.findings import Finding, found
from bridge.model.secret import Secret
from bridge.net.passwords import is_hash

_SHORT = 12
"""Characters of a password below which guessing it is no dream: the terminals' door is open to a network."""

_SAFE_DEADLINE = 5.0
"""Seconds: three before its deadline a press is withdrawn where this machine's own cable is pulled
(docs/operation.md)."""

_PASSWORD = re.compile(r"^[^#\n]*\bpassword:[ ]*[\"']?(?![\"'\s!#~]|null\b|\$argon2|$)", re.MULTILINE)
"""A password itself in a configuration: not `!secret`, not null, no hash."""

_SOON = timedelta(days=21)
"""Before the end of a certificate: those that renew themselves do so a month before."""


def judge_configuration(settings: Settings, file: Path, now: datetime) -> list[Finding]:
    """Say what is unwise.

    Args:
        settings: what the configuration says.
        file: where it stands.
        now: the time, for certificates.
    """
    findings = [
        *_broker(settings),
        *_terminals(settings),
        *_others(settings),
        *_files(file),
        *_certificates(settings, now),
    ]
    return findings or [found("configuration_ok", f"{file}: nothing to complain of")]


def _broker(settings: Settings) -> Iterator[Finding]:
    mqtt = settings.mqtt
    if mqtt.host is None:
        yield found(
            "broker_embedded",
            "the embedded broker is for trying out: person changes get lost when it stops",
            "install Mosquitto and set mqtt.host",
        )
        return
    if mqtt.tls is not None and not mqtt.tls.verify:
        yield found(
            "tls_not_verified",
            "mqtt.tls.verify is false: anybody in between can play the broker",
            "set mqtt.tls.ca to the authority of the broker's certificate, and verify to true",
        )
    if mqtt.tls is None and not _is_this_machine(mqtt.host):
        yield found(
            "mqtt_plain",
            f"what goes to the broker {mqtt.host}, faces included, crosses the network without TLS",
            "set mqtt.tls, unless that network is the broker's and the bridge's alone",
        )
    if mqtt.username is None and (mqtt.tls is None or mqtt.tls.certificate is None):
        yield found(
            "mqtt_anonymous",
            "the bridge gives the broker no user: whoever reaches the broker may open doors, if it asks nobody",
            "give the broker users and access rules, and the bridge one of its own (mqtt.username)",
        )
    prefix = settings.homeassistant.prefix
    if mqtt.base_topic == prefix or mqtt.base_topic.startswith(f"{prefix}/"):
        yield found(
            "base_topic_in_discovery",
            f"mqtt.base_topic {mqtt.base_topic} lies inside Home Assistant's discovery prefix {prefix}: it would read"
            " the bridge's topics as discovery",
            "choose a base topic outside it",
        )


def _terminals(settings: Settings) -> Iterator[Finding]:
    door = settings.terminals
    passwords: list[tuple[str, Secret | None]] = [("terminals.password", door.password)]
    passwords += [(f"terminals.known.{one.sn}.password", one.password) for one in door.known]
    plain = [(key, one.reveal()) for key, one in passwords if one is not None and not is_hash(one.reveal())]
    short = [key for key, value in plain if len(value) < _SHORT]
    if short:
        yield found(
            "terminal_password_short",
            f"{_some(short)} {'has' if len(short) == 1 else 'have'} fewer than {_SHORT} characters",
            "choose a longer one, and enter it on the terminals",
        )
    if plain:
        yield found(
            "terminal_password_plain",
            f"{_some([key for key, _ in plain])} can be read by whoever reads the configuration",
            "keep a hash instead: `facebridge hash-password`",
        )
    if door.admit == "any":
        yield found(
            "admit_any",
            "terminals.admit is any: whoever has the credentials is a terminal, also one that you do not know",
            "set it to known once all terminals are there",
        )


def _others(settings: Settings) -> Iterator[Finding]:
    if settings.commands.deadline < _SAFE_DEADLINE:
        yield found(
            "deadline_short",
            f"commands.deadline is {settings.commands.deadline:g} s: where this machine's own cable is pulled, a press"
            " may be carried out up to three seconds later than that, when the cable is back",
            "set it to 5 or more, unless that one case does not matter",
        )
    web = settings.web
    if not _is_this_machine(web.host) and not (web.url or "").startswith("https://"):
        yield found(
            "web_plain_http",
            f"web.host {web.host}: passwords and presses cross the network as plain HTTP",
            "listen on 127.0.0.1 behind a proxy with TLS, and set web.url to its https address",
        )
    for folder in settings.photos.folders:
        if not os.access(folder, os.R_OK | os.X_OK):
            yield found(
                "photo_folder_unusable",
                f"photos.folders: {folder} is not there, or may not be read",
                "make it, or give the bridge's user access",
            )
    if not settings.store.photo_key:
        yield found(
            "photos_unencrypted",
            "photos lie unencrypted in the store and its backups",
            "set store.photo_key, where somebody else may come by either",
        )


def _files(file: Path) -> Iterator[Finding]:
    for code, one in (("secrets_readable", file.absolute().parent / SECRETS_FILE), ("config_readable", file)):
        try:
            mode, text = one.stat().st_mode, one.read_text(errors="replace")
        except OSError:
            continue
        holds_secrets = code == "secrets_readable" or _holds_password(text)
        if mode & 0o044 and holds_secrets:
            yield found(code, f"{one} holds passwords, and other users of this machine may read it", f"chmod 600 {one}")


def _holds_password(text: str) -> bool:
    """Tell whether a configuration has a password in it, rather than the name of one elsewhere."""
    return _PASSWORD.search(text) is not None


def _certificates(settings: Settings, now: datetime) -> Iterator[Finding]:
    tls, door = settings.mqtt.tls, settings.terminals.tls
    files = {
        "mqtt.tls.ca": tls.ca if tls is not None else None,
        "mqtt.tls.certificate": tls.certificate if tls is not None else None,
        "terminals.tls.certificate": door.certificate if door is not None else None,
    }
    for key, file in files.items():
        if file is None:
            continue
        try:
            ends = min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(file.read_bytes()))
        except (OSError, ValueError, ssl.SSLError):
            yield found(
                "certificate_unusable", f"{key}: {file} is no certificate in PEM, or may not be read", "see to it"
            )
            continue
        if ends < now:
            yield found("certificate_expired", f"{key}: {file} has expired on {ends:%Y-%m-%d}", "renew it")
        elif ends - now < _SOON:
            yield found("certificate_expires", f"{key}: {file} expires on {ends:%Y-%m-%d}", "renew it")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more
