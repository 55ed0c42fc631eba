"""Checks of single values of the configuration: each returns the value or raises `vol.Invalid`."""

import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import voluptuous as vol
from cryptography.fernet import Fernet

from bridge.config.document import UNREADABLE, DocumentError, parse_document
from bridge.model.names import ALL_TERMINALS, GROUP_NAME
from bridge.model.secret import Secret

Check = Callable[[Any], Any]

MAX_TEXT_CHARACTERS = 1024
"""Length of any text; paths, hashes and URLs are much shorter."""

_CURLY_QUOTES = frozenset("\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb")
"""Quotes that word processors and phones write; no password begins and ends with one on purpose."""

_FORBIDDEN_IN_TOPIC = re.compile(r"[+#\x00-\x1f\x7f]|^[/$]|/$|//")
_SIZE = re.compile(r"([0-9]{1,4})x([0-9]{1,4})")


class EnvironmentText(str):
    """The value of an environment variable, which is interpreted later as its key requires."""

    __slots__ = ()


def read_environment_text(given: str, check: Check) -> Any:
    """Return the value of an environment variable: the text itself if the check accepts it, otherwise parsed as YAML.

    So `123` can be a password or a port, `[/media]` is a list, and an empty variable is null if null is allowed. If the
    check accepts neither, the result is the value for which it raises the more helpful fault.

    Raises:
        vol.Invalid: the YAML list or mapping has a fault in its structure.
    """
    if _passes(given, check):
        return given
    try:
        document = parse_document(given, {})
    except DocumentError:
        return given
    if document.faults:
        raise vol.Invalid(document.faults[0][2])
    # For `[nowhere]` the parsed value gives the better message, for `007` the text does.
    parsed = document.value
    return parsed if isinstance(parsed, list | dict) or _passes(parsed, check) else given


def _passes(value: Any, check: Check) -> bool:
    try:
        check(value)
    except vol.Invalid:
        return False
    return True


def resolving(check: Check) -> Check:
    """Return a check that skips unreadable values and interprets environment variables, and then does `check`."""

    def resolved(value: Any) -> Any:
        if value is UNREADABLE:
            return value
        return check(read_environment_text(str(value), check) if isinstance(value, EnvironmentText) else value)

    return resolved


class Nullable:
    """A check that also accepts null.

    Attributes:
        inner: the check of other values.
    """

    def __init__(self, inner: Check) -> None:
        self.inner = inner

    def __call__(self, value: Any) -> Any:
        """Return None for null, or the checked value."""
        return None if value is None else self.inner(value)


def text(value: Any) -> str:
    """Check for printable text of limited length that is not blank."""
    if not isinstance(value, str | list | dict | None):
        raise vol.Invalid(f"must be text, but YAML reads this as {_kind(value)}: put it in quotes")
    if not isinstance(value, str):
        raise vol.Invalid(f"must be text, not {_kind(value)}")
    if len(value) > 1 and value[0] in _CURLY_QUOTES and value[-1] in _CURLY_QUOTES:
        raise vol.Invalid("is in curly quotes, which would be a part of the text: use straight quotes")
    if not value.strip() or len(value) > MAX_TEXT_CHARACTERS or not value.isprintable():
        raise vol.Invalid(f"must be text of 1 to {MAX_TEXT_CHARACTERS} printable characters")
    return value


def login_name(value: Any) -> str:
    """Check for the name of a user that logs in with HTTP Basic."""
    if ":" in text(value):
        # RFC 7617, section 2: the colon separates name and password.
        raise vol.Invalid("must not contain a colon: HTTP Basic ends the name there")
    return str(value)


def secret(value: Any) -> Secret:
    """Check for text that must never be shown."""
    return Secret(text(value))


def whole_number(low: int, high: int) -> Check:
    """Check for a whole number within bounds."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise vol.Invalid(f"must be a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float, unit: str) -> Check:
    """Check for a number within bounds."""

    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise vol.Invalid(f"must be a number of {unit} from {low:g} to {high:g}")
        return float(value)

    return check


def true_or_false(value: Any) -> bool:
    """Check for a boolean."""
    if not isinstance(value, bool):
        raise vol.Invalid("must be true or false")
    return value


def one_of(*allowed: str) -> Check:
    """Check for one of some words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            quotes = ", in quotes" if isinstance(value, int | float) else ""
            raise vol.Invalid(f"must be one of {', '.join(map(repr, allowed))}{quotes}")
        return value

    return check


def list_of(check: Check, items: str) -> Check:
    """Check for a list, and check its items; `items` names them in the message."""
    schema = vol.Schema([resolving(check)])

    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise vol.Invalid(f"must be a list of {items}, as [one, two]")
        return tuple(schema(value))

    return checked


def host(value: Any) -> str:
    """Check for the name or IP address of a machine."""
    given = text(value)
    if re.search(r"[\s/@\[\]]", given) or (":" in given and not _is_address(given)):
        raise vol.Invalid("must be only a name or an address, without scheme, port or brackets")
    return given


def topic(value: Any) -> str:
    """Check for a topic that can be the prefix of other topics."""
    if _FORBIDDEN_IN_TOPIC.search(text(value)):
        raise vol.Invalid("must be a topic without + and #, and must not begin with / or $ or end with /")
    return str(value)


def url_path(value: Any) -> str:
    """Check for the path of a URL, and remove a slash at its end."""
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text(value)) or "//" in value:
        raise vol.Invalid("must begin with / and contain only letters, digits and . _ ~ - /")
    return str(value).rstrip("/")


def web_url(value: Any) -> str:
    """Check for the address of a web page."""
    given = text(value)
    try:
        parts = urlsplit(given)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise vol.Invalid("must be an address like https://doors.example.org, without a user")
    return given


def store_url(value: Any) -> Secret:
    """Check for the URL of a database that is supported."""
    given = text(value)
    if not re.fullmatch(r"sqlite:///.+|postgresql://.+", given):
        raise vol.Invalid("must begin with sqlite:/// or postgresql://")
    if given == "sqlite:///:memory:":
        raise vol.Invalid("must be a file: a database in memory is lost when the bridge stops")
    return Secret(given)


def photo_keys(value: Any) -> tuple[Secret, ...]:
    """Check for one Fernet key or a list of keys, the newest first."""
    given = value if isinstance(value, list) else [value]
    if not given:
        raise vol.Invalid("must be a key, a list of keys, or null for none")
    return tuple(_photo_key(one) for one in given)


def _photo_key(value: Any) -> Secret:
    key = text(value)
    try:
        Fernet(key)
    except ValueError:
        raise vol.Invalid(
            "must be a Fernet key, 32 random bytes in URL-safe base64: create one with"
            " `openssl rand -base64 32 | tr +/ -_`"
        ) from None
    return Secret(key)


def network(value: Any) -> IPv4Network | IPv6Network:
    """Check for an IP address or network."""
    try:
        return ip_network(text(value), strict=False)
    except ValueError:
        raise vol.Invalid("must be an address or a network, as 10.0.0.7 or 10.0.0.0/24") from None


def group_name(value: Any) -> str:
    """Check for the name of a group."""
    if value == ALL_TERMINALS:
        raise vol.Invalid('"all" is the group of every terminal: choose another name')
    if not GROUP_NAME.fullmatch(text(value)):
        raise vol.Invalid("must be 1 to 64 letters, digits, _ and -")
    return str(value)


def picture_size(value: Any) -> tuple[int, int]:
    """Check for a width and a height in pixels."""
    match = _SIZE.fullmatch(text(value))
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(32 <= side <= 1080 for side in size):
        raise vol.Invalid('must be a width and a height of 32 to 1080 pixels, as "640x480"')
    return size


def file_below(folder: Path) -> Check:
    """Check for a readable file, its path relative to `folder`."""
    return _below(folder, "file", Path.is_file)


def folder_below(parent: Path) -> Check:
    """Check for a readable folder, its path relative to `parent`."""
    return _below(parent, "folder", Path.is_dir)


def _below(start: Path, kind: str, has_kind: Callable[[Path], bool]) -> Check:
    def check(value: Any) -> Path:
        path = start / text(value)
        try:
            exists = has_kind(path)
        except OSError as error:
            raise vol.Invalid(f"the {kind} cannot be read: {error.strerror}") from None
        if not exists:
            raise vol.Invalid(f"there is no such {kind}")
        if not os.access(path, os.R_OK):
            raise vol.Invalid(f"the {kind} cannot be read: Permission denied")
        return path

    return check


def _is_address(given: str) -> bool:
    try:
        ip_address(given)
    except ValueError:
        return False
    return True


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else "a date"
