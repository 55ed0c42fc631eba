"""What a single value of the configuration may be: each check returns the value, or raises with what is allowed."""

import math
import re
from collections.abc import Callable, Collection
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import voluptuous as vol

from bridge.config.document import UNREADABLE
from bridge.model.names import ALL_TERMINALS, GROUP_NAME
from bridge.model.secret import Secret

Check = Callable[[Any], Any]

MAXIMUM_TEXT = 1024
"""Characters of any text: paths, hashes and URLs stay far below."""

_TOPIC_FORBIDDEN = re.compile(r"[+#\x00-\x1f\x7f]|^[/$]|/$|//")
_SIZE = re.compile(r"([0-9]{1,4})x([0-9]{1,4})")


def passing_unreadable(check: Check) -> Check:
    """Let through what has its fault already."""

    def passing(value: Any) -> Any:
        return value if value is UNREADABLE else check(value)

    return passing


class nullable:  # noqa: N801  reads as the other checks do
    """Allow null too.

    Attributes:
        inner: what else is allowed.
    """

    def __init__(self, inner: Check) -> None:
        self.inner = inner
        self._check = passing_unreadable(inner)

    def __call__(self, value: Any) -> Any:
        """Check a value."""
        return None if value is None else self._check(value)


def text(value: Any) -> str:
    """Check for text that is printable, not empty and not endless."""
    if isinstance(value, bool | int | float) or (value is not None and not isinstance(value, str | dict | list)):
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
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise vol.Invalid(f"must be a number of {unit} from {low:g} to {high:g}")
        if not low <= value <= high:
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
    schema = vol.Schema([passing_unreadable(check)])

    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise vol.Invalid(f"must be a list of {what}, as [one, two]")
        return tuple(schema(value))

    return checked


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
    parts = urlsplit(text(value))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise vol.Invalid("must be an address like https://doors.example.org, without a user")
    return str(value)


def store_url(value: Any) -> Secret:
    """Check for a database the store can be in."""
    given = text(value)
    if not re.fullmatch(r"sqlite:///.+|postgresql://.+", given):
        raise vol.Invalid("must begin with sqlite:/// or postgresql://")
    return Secret(given)


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
    """Check for a file that is there, relative to `folder`."""

    def check(value: Any) -> Path:
        file = folder / text(value)
        if not file.is_file():
            raise vol.Invalid("there is no such file")
        return file

    return check


def folder_below(parent: Path) -> Check:
    """Check for a folder that is there, relative to `parent`."""

    def check(value: Any) -> Path:
        folder = parent / text(value)
        if not folder.is_dir():
            raise vol.Invalid("there is no such folder")
        return folder

    return check


def together(keys: Collection[str]) -> Check:
    """Check that of a mapping's keys all or none are given."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        missing = [key for key in keys if value.get(key) is None]
        if missing and len(missing) < len(keys):
            raise vol.Invalid(f"must be given too: {' and '.join(keys)} go together", path=[missing[0]])
        return value

    return check


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
