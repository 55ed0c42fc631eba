"""What a single value of the configuration may be: each check returns the value, or raises with what is allowed."""

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

MAXIMUM_TEXT = 1024
"""Characters of any text: paths, hashes and URLs stay far below."""

_TOPIC_FORBIDDEN = re.compile(r"[+#\x00-\x1f\x7f]|^[/$]|/$|//")
_SIZE = re.compile(r"([0-9]{1,4})x([0-9]{1,4})")


class EnvironmentText(str):
    """What a variable of the environment holds, yet to be read as its key asks for it."""

    __slots__ = ()


def read_environment_text(given: str, check: Check) -> Any:
    """Return what a variable says to a key: the text itself where the key can be text, else its reading as YAML.

    So `123` is a password and a port, `[/media]` a list, and an empty variable null where null is allowed. What the
    key can take in neither way is returned for its check to complain of.

    Raises:
        vol.Invalid: it holds a list or mapping that is faulty in itself.
    """
    if _passes(given, check):
        return given
    try:
        document = parse_document(given, {})
    except DocumentError:
        return given
    if document.faults:
        raise vol.Invalid(document.faults[0][2])
    # Of `[nowhere]` the reading has the better fault, of `007` the text.
    read = document.value
    return read if isinstance(read, list | dict) or _passes(read, check) else given


def _passes(value: Any, check: Check) -> bool:
    try:
        check(value)
    except vol.Invalid:
        return False
    return True


def resolving(check: Check) -> Check:
    """Let through what has its fault already, and read what the environment holds."""

    def resolved(value: Any) -> Any:
        if value is UNREADABLE:
            return value
        return check(read_environment_text(str(value), check) if isinstance(value, EnvironmentText) else value)

    return resolved


class nullable:  # noqa: N801  reads as the other checks do
    """Allow null too.

    Attributes:
        inner: what else is allowed.
    """

    def __init__(self, inner: Check) -> None:
        self.inner = inner

    def __call__(self, value: Any) -> Any:
        """Check a value."""
        return None if value is None else self.inner(value)


def text(value: Any) -> str:
    """Check for text that is printable, not empty and not endless."""
    if not isinstance(value, str | list | dict | None):
        raise vol.Invalid(f"must be text, and YAML reads this as {_kind(value)}: put it in quotes")
    if not isinstance(value, str):
        raise vol.Invalid(f"must be text, not {_kind(value)}")
    if not value.strip() or len(value) > MAXIMUM_TEXT or not value.isprintable():
        raise vol.Invalid(f"must be text of 1 to {MAXIMUM_TEXT} printable characters")
    return value


def secret(value: Any) -> Secret:
    """Check for text that must not be shown."""
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
    """Check for one of a few words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            quotes = ", in quotes" if isinstance(value, int | float) else ""
            raise vol.Invalid(f"must be one of {', '.join(repr(word) for word in allowed)}{quotes}")
        return value

    return check


def list_of(check: Check, what: str) -> Check:
    """Check every item of a list."""
    schema = vol.Schema([resolving(check)])

    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise vol.Invalid(f"must be a list of {what}, as [one, two]")
        return tuple(schema(value))

    return checked


def host(value: Any) -> str:
    """Check for a machine's name or address."""
    given = text(value)
    if re.search(r"[\s/@\[\]]", given) or (":" in given and not _is_address(given)):
        raise vol.Invalid("must be a name or an address alone, without scheme, port or brackets")
    return given


def topic(value: Any) -> str:
    """Check for a topic that others can stand below."""
    if _TOPIC_FORBIDDEN.search(text(value)):
        raise vol.Invalid("must be a topic without + and #, not beginning with / or $, not ending with /")
    return str(value)


def url_path(value: Any) -> str:
    """Check for the path that SNs stand below; a slash at its end makes no difference."""
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text(value)) or "//" in value:
        raise vol.Invalid("must begin with / and hold letters, digits and . _ ~ - / only")
    return str(value).rstrip("/")


def web_url(value: Any) -> str:
    """Check for an address that people can open."""
    given = text(value)
    try:
        parts = urlsplit(given)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise vol.Invalid("must be an address like https://doors.example.org, without a user")
    return given


def store_url(value: Any) -> Secret:
    """Check for a database the store can be in."""
    given = text(value)
    if not re.fullmatch(r"sqlite:///.+|postgresql://.+", given):
        raise vol.Invalid("must begin with sqlite:/// or postgresql://")
    if given == "sqlite:///:memory:":
        raise vol.Invalid("must be in a file: what is only in memory gets lost")
    return Secret(given)


def photo_keys(value: Any) -> tuple[Secret, ...]:
    """Check for one Fernet key or a list of them, the newest first."""
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
            "must be a Fernet key, 32 random bytes in URL-safe base64: make one with"
            " `openssl rand -base64 32 | tr +/ -_`"
        ) from None
    return Secret(key)


def network(value: Any) -> IPv4Network | IPv6Network:
    """Check for an address or a network."""
    try:
        return ip_network(text(value), strict=False)
    except ValueError:
        raise vol.Invalid("must be an address or a network, as 10.0.0.7 or 10.0.0.0/24") from None


def group_name(value: Any) -> str:
    """Check for a name that a group may be given."""
    if value == ALL_TERMINALS:
        raise vol.Invalid('"all" is the group of every terminal already')
    if not GROUP_NAME.fullmatch(text(value)):
        raise vol.Invalid("must have 1 to 64 letters, digits, _ and -")
    return str(value)


def picture_size(value: Any) -> tuple[int, int]:
    """Check for a width and a height in pixels."""
    match = _SIZE.fullmatch(text(value))
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(32 <= side <= 1080 for side in size):
        raise vol.Invalid('must be a width and a height of 32 to 1080 pixels, as "640x480"')
    return size


def file_below(folder: Path) -> Check:
    """Check for a file that is there and can be read, relative to `folder`."""
    return _below(folder, "file", Path.is_file)


def folder_below(parent: Path) -> Check:
    """Check for a folder that is there and can be read, relative to `parent`."""
    return _below(parent, "folder", Path.is_dir)


def _below(start: Path, kind: str, is_one: Callable[[Path], bool]) -> Check:
    def check(value: Any) -> Path:
        path = start / text(value)
        try:
            there = is_one(path)
        except OSError as error:
            raise vol.Invalid(f"the {kind} cannot be read: {error.strerror}") from None
        if not there:
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
