"""The configuration once it is valid: what the parts are built from. Field names are the keys of `config.yaml`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from bridge.model.secret import Secret
from bridge.model.terminal import Terminal

_DATABASE = re.compile(r"(?:(?P<user>[^:@/?]*)(?::[^@]*)?@)?(?P<place>[^?]*)")
"""The part of a database URL behind `://`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTlsSettings:
    """TLS to the broker; None for a file means the system's authorities, or no client certificate."""

    ca: Path | None
    certificate: Path | None
    key: Path | None
    verify: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """The broker; `host` None means an embedded one."""

    host: str | None
    port: int
    username: str | None
    password: Secret | None
    client_id: str
    base_topic: str
    protocol: Literal["5", "3.1.1"]
    tls: MqttTlsSettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeAssistantSettings:
    """Home Assistant's discovery."""

    discovery: bool
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTlsSettings:
    """The certificate the terminals' door shows, and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalsSettings:
    """The terminals' door; `idle_timeout` is in seconds."""

    host: str
    port: int
    path: str
    tls: ServerTlsSettings | None
    username: str | None
    password: Secret | None
    admit: Literal["known", "any"]
    idle_timeout: float
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    known: tuple[Terminal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """Presses; `deadline` is in seconds."""

    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsSettings:
    """Persons; `remove_expired` is in days, None for never."""

    remove_expired: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSettings:
    """Photos; `max_bytes` of a picture as it comes in, `size` its width and height in pixels."""

    folders: tuple[Path, ...]
    max_bytes: int
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The database; the URL may carry a password.

    Attributes:
        url: `sqlite:///FILE`, the file's path absolute, or `postgresql://…`.
        photo_key: the Fernet keys of photos, the one that encrypts first; empty for photos as they are.
    """

    url: Secret
    photo_key: tuple[Secret, ...]

    @property
    def shown_url(self) -> str:
        """The URL without its password, and without its options, which can hold one too; for logs."""
        scheme, _, rest = self.url.reveal().partition("://")
        if scheme == "sqlite":
            return f"{scheme}://{rest}"
        found = _DATABASE.match(rest)
        user, place = found.group("user", "place") if found else (None, "")
        return f"{scheme}://{f'{user}@' if user else ''}{place.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The audit."""

    keep_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """A program's token."""

    hash: Secret
    role: Literal["admin", "operator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The HTTP server."""

    host: str
    port: int
    url: str | None
    username: str | None
    password: Secret | None
    tokens: Mapping[str, TokenSettings]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    """The log."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it."""

    mqtt: MqttSettings
    homeassistant: HomeAssistantSettings
    terminals: TerminalsSettings
    commands: CommandSettings
    persons: PersonsSettings
    photos: PhotoSettings
    store: StoreSettings
    audit: AuditSettings
    web: WebSettings
    logging: LoggingSettings
