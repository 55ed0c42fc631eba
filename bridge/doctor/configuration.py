"""Configurations that are valid but unwise."""

import os
import re
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from bridge.config.load import SECRETS_FILE
from bridge.config.settings import Settings, WebSettings
from bridge.doctor.findings import Finding, first_few, make_finding
from bridge.model.secret import Secret
from bridge.net.passwords import is_hash

_SHORT_PASSWORD_CHARACTERS = 12
"""Shorter passwords can be guessed, and the terminals' port is open to a network."""

_SAFE_DEADLINE_SECONDS = 5.0
"""If this machine's own cable is pulled, a press is withdrawn three seconds before its deadline (docs/operation.md)."""

_PASSWORD = re.compile(r"^[^#\n]*\bpassword:[ ]*[\"']?(?![\"'\s!#~]|null\b|\$argon2|$)", re.MULTILINE)
"""A literal password in a configuration: not `!secret`, not null, not a hash."""

_RENEWAL_PERIOD = timedelta(days=21)
"""Time before a certificate's end. Certificates that are renewed automatically are renewed a month before."""

_SHOWN_KEYS = 3


def evaluate_configuration(settings: Settings, file: Path | None, now: datetime) -> list[Finding]:
    """Report unwise settings.

    Args:
        settings: the configuration.
        file: its file; None if it comes from elsewhere, for example from the options of the Home Assistant app.
        now: the current time, for certificates.
    """
    findings = [
        *_broker(settings),
        *_terminals(settings),
        *_others(settings),
        *(() if file is None else _files(file)),
        *_certificates(settings, now),
    ]
    return findings or [make_finding("configuration_ok", f"{file or 'the configuration'}: nothing to report")]


def _broker(settings: Settings) -> Iterator[Finding]:
    mqtt = settings.mqtt
    if mqtt.host is None:
        yield make_finding(
            "broker_embedded",
            "the embedded broker is only for trying out: it loses person changes when it stops",
            "install Mosquitto and set mqtt.host",
        )
        return
    if mqtt.tls is not None and not mqtt.tls.verify:
        yield make_finding(
            "tls_not_verified",
            "mqtt.tls.verify is false: any machine in between can pretend to be the broker",
            "set mqtt.tls.ca to the authority of the broker's certificate, and verify to true",
        )
    if mqtt.tls is None and not _is_this_machine(mqtt.host):
        yield make_finding(
            "mqtt_plain",
            f"messages to the broker {mqtt.host}, faces included, cross the network without TLS",
            "set mqtt.tls, unless only the broker and the bridge use that network",
        )
    if mqtt.username is None and (mqtt.tls is None or mqtt.tls.certificate is None):
        yield make_finding(
            "mqtt_anonymous",
            "the bridge logs in to the broker without a user: if the broker allows that, everyone who reaches it can"
            " open doors",
            "set up users and access rules at the broker, and a user for the bridge (mqtt.username)",
        )
    prefix = settings.homeassistant.prefix
    if mqtt.base_topic == prefix or mqtt.base_topic.startswith(f"{prefix}/"):
        yield make_finding(
            "base_topic_in_discovery",
            f"mqtt.base_topic {mqtt.base_topic} lies inside Home Assistant's discovery prefix {prefix}: Home Assistant"
            " would read the bridge's topics as discovery",
            "choose a base topic outside it",
        )


def _terminals(settings: Settings) -> Iterator[Finding]:
    terminals = settings.terminals
    passwords: list[tuple[str, Secret | None]] = [("terminals.password", terminals.password)]
    passwords += [(f"terminals.known.{one.sn}.password", one.password) for one in terminals.known]
    plain = [(key, one.reveal()) for key, one in passwords if one is not None and not is_hash(one.reveal())]
    short = [key for key, value in plain if len(value) < _SHORT_PASSWORD_CHARACTERS]
    if short:
        yield make_finding(
            "terminal_password_short",
            f"{first_few(short, _SHOWN_KEYS)} {'has' if len(short) == 1 else 'have'} fewer than"
            f" {_SHORT_PASSWORD_CHARACTERS} characters",
            "choose a longer one, and enter it on the terminals",
        )
    if plain:
        yield make_finding(
            "terminal_password_plain",
            f"{first_few([key for key, _ in plain], _SHOWN_KEYS)}: everyone who reads the configuration can read it",
            "store a hash instead: `facebridge hash-password`",
        )
    if terminals.admit == "any":
        yield make_finding(
            "admit_any",
            "terminals.admit is any: every device with the credentials is accepted as a terminal, also an unknown one",
            "set it to known once all terminals are set up",
        )


def _others(settings: Settings) -> Iterator[Finding]:
    if settings.commands.deadline < _SAFE_DEADLINE_SECONDS:
        yield make_finding(
            "deadline_short",
            f"commands.deadline is {settings.commands.deadline:g} s: if this machine's own cable is pulled, a press may"
            " be carried out up to three seconds after the deadline, when the cable is back",
            "set it to 5 or more, unless that one case does not matter",
        )
    web = settings.web
    if not _is_this_machine(web.host) and not (web.url or "").startswith("https://"):
        yield make_finding(
            "web_plain_http",
            f"web.host {web.host}: passwords and presses cross the network as plain HTTP",
            "listen on 127.0.0.1 behind a proxy with TLS, and set web.url to its https address",
        )
    if _is_this_machine(web.host) and web.username is None and not web.tokens and _is_behind_proxy(web):
        yield make_finding(
            "web_open_behind_proxy",
            "web.url or web.trusted_proxies: behind a proxy everyone uses the page without a login",
            "set web.username and web.password, unless the proxy itself asks everyone for a login",
        )
    for folder in settings.photos.folders:
        if not os.access(folder, os.R_OK | os.X_OK):
            yield make_finding(
                "photo_folder_unusable",
                f"photos.folders: {folder} does not exist, or is not readable",
                "create it, or give the bridge's user access",
            )
    if not settings.store.photo_key:
        yield make_finding(
            "photos_unencrypted",
            "the store and its backups hold photos without encryption",
            "set store.photo_key, if others could get hold of either",
        )


def _files(file: Path) -> Iterator[Finding]:
    for code, one in (("secrets_readable", file.absolute().parent / SECRETS_FILE), ("config_readable", file)):
        try:
            mode, text = one.stat().st_mode, one.read_text(errors="replace")
        except OSError:
            continue
        holds_secrets = code == "secrets_readable" or _PASSWORD.search(text) is not None
        if mode & 0o044 and holds_secrets:
            yield make_finding(
                code, f"{one} holds passwords, and other users of this machine may read it", f"chmod 600 {one}"
            )


def _certificates(settings: Settings, now: datetime) -> Iterator[Finding]:
    mqtt_tls, terminals_tls = settings.mqtt.tls, settings.terminals.tls
    files = {
        "mqtt.tls.ca": mqtt_tls.ca if mqtt_tls is not None else None,
        "mqtt.tls.certificate": mqtt_tls.certificate if mqtt_tls is not None else None,
        "terminals.tls.certificate": terminals_tls.certificate if terminals_tls is not None else None,
    }
    for key, file in files.items():
        if file is None:
            continue
        try:
            ends = min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(file.read_bytes()))
        except (OSError, ValueError, ssl.SSLError):
            yield make_finding(
                "certificate_unusable",
                f"{key}: {file} is not a certificate in PEM format, or not readable",
                "correct the path or the file",
            )
            continue
        if ends < now:
            yield make_finding("certificate_expired", f"{key}: {file} expired on {ends:%Y-%m-%d}", "renew it")
        elif ends - now < _RENEWAL_PERIOD:
            yield make_finding("certificate_expires", f"{key}: {file} expires on {ends:%Y-%m-%d}", "renew it")


def _is_behind_proxy(web: WebSettings) -> bool:
    return bool(web.trusted_proxies) or not _is_this_machine(urlsplit(web.url or "http://localhost").hostname or "")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
