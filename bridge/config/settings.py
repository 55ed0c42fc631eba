"""The valid configuration as dataclasses. Field names are the keys of `config.yaml`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from bridge.model.secret import Secret
from bridge.model.terminal import Terminal

_DATABASE = re.compile(r"(?:(?P<user>[^:@/?]*)(?::[^@]*)?@)?(?P<place>[^?]*)")
"""The part of a database URL after `://`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTlsSettings:
    """TLS to the broker; `ca` None means the system's authorities, `certificate` None no client certificate."""

    ca: Path | None
    certificate: Path | None
    key: Path | None
    verify: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """The connection to the broker.

    Attributes:
        host: None means an embedded broker.
        is_embedded: whether the other settings are those of a running embedded broker; not a key of `config.yaml`.
    """

    host: str | None
    port: int
    username: str | None
    password: Secret | None
    client_id: str
    base_topic: str
    protocol: Literal["5", "3.1.1"]
    tls: MqttTlsSettings | None
    is_embedded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeAssistantSettings:
    """Discovery in Home Assistant; `send_time`: its buttons send `asked_at`."""

    discovery: bool
    prefix: str
    send_time: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTlsSettings:
    """The certificate of the server that terminals connect to, and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalsSettings:
    """The server that terminals connect to.

    `idle_timeout` is in seconds; `forward_messages`: messages that the protocol does not know are published.
    """

    host: str
    port: int
    path: str
    tls: ServerTlsSettings | None
    username: str | None
    password: Secret | None
    admit: Literal["known", "any"]
    idle_timeout: float
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    forward_messages: bool
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
    """Photos; `max_bytes` limits a received picture, `size` is the width and height in pixels of a stored one."""

    folders: tuple[Path, ...]
    max_bytes: int
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The database; the URL may carry a password.

    Attributes:
        url: `sqlite:///FILE` with an absolute path, or `postgresql://…`.
        photo_key: the Fernet keys of photos; the first one encrypts. Empty for no encryption.
    """

    url: Secret
    photo_key: tuple[Secret, ...]

    @property
    def folder(self) -> Path | None:
        """The folder of an SQLite database, which has room for photos too; None for another database."""
        scheme, _, file = self.url.reveal().partition(":///")
        return Path(file).parent if scheme == "sqlite" else None

    def named(self, message: str) -> str:
        """Return a message about the store, with its address in front unless the message names its file."""
        file = self.url.reveal().partition(":///")[2]
        return message if self.folder is not None and file in message else f"{self.shown_url}: {message}"

    @property
    def shown_url(self) -> str:
        """The URL for logs, without its password and without its options, which can contain one too."""
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
    """The token of a program."""

    hash: Secret
    role: Literal["admin", "operator"]


OWN_TOKEN = "facebridge doctor"  # noqa: S105  a name
"""The name of the token that the app creates for `facebridge doctor`. People cannot sign in with it: they do not know
it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The HTTP server; `ingress` is the address of Home Assistant's Supervisor, which has checked its users' logins."""

    host: str
    port: int
    url: str | None
    username: str | None
    password: Secret | None
    tokens: Mapping[str, TokenSettings]
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    ingress: IPv4Network | IPv6Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    """The log."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration.

    Attributes:
        file: the file that it was read from; None if it was built in another way.
    """

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
    file: Path | None = None
