"""Where a person's picture comes from, and reading it as it came, without harm and within bounds."""

import binascii
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bridge.model.faults import InvalidError


@dataclass(frozen=True, slots=True)
class InlinePhoto:
    """A picture given with the person.

    Attributes:
        text: base64, or a data URI of it; not checked yet.
    """

    FIELD: ClassVar[str] = "photo"

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A picture in one of the `photos.folders`.

    Attributes:
        path: absolute, or as seen from one of the folders; not checked yet.
    """

    FIELD: ClassVar[str] = "photo_file"

    path: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttachedPhoto:
    """A picture that lies beside a file of persons, in a folder or an archive.

    Attributes:
        name: of the picture's file, to be shown.
        read: takes the most bytes there may be and returns the picture's, not checked yet; runs in a thread. Raises
            InvalidError where it cannot be read or has more.
    """

    FIELD: ClassVar[str] = "photo"

    name: str
    read: Callable[[int], bytes] = field(repr=False)


PhotoSource = InlinePhoto | PhotoFile | AttachedPhoto
"""A picture as a user gives it; `FIELD` is the person's field it is given in."""

_LONGEST_DATA_PREFIX = 256
"""Characters before a data URI's comma: a media type, and parameters that nobody needs."""
_DATA_PREFIX = re.compile(r"data:[^,;]*(?:;[^,;]*)*?;base64", re.IGNORECASE)
_WHITE_SPACE = " \t\n\r\f\v"
_OUTSIDE = "must lie inside one of photos.folders of the configuration"
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")


def read_inline(text: str, max_bytes: int) -> bytes:
    """Decode base64 or a data URI.

    White space is allowed, as `base64` wraps its lines. All else is strict, so that a picture that was cut off or
    mangled on its way is told and not guessed at.

    Raises:
        InvalidError: it is neither, or more than `max_bytes`.
    """
    if text[:5].lower() == "data:":
        prefix, comma, _ = text[: _LONGEST_DATA_PREFIX + 1].partition(",")
        if not comma or _DATA_PREFIX.fullmatch(prefix) is None:
            raise InvalidError.at("", 'a data URI must begin like "data:image/jpeg;base64,"')
        text = text[len(prefix) + 1 :]
    # A regular expression takes 2 ms for 100 KB, and presses wait for it: it does not let go of the interpreter lock.
    for space in _WHITE_SPACE:
        text = text.replace(space, "")
    if not text:
        raise InvalidError.at("", "is empty")
    # Before anything is decoded: three bytes are four characters.
    check_size(len(text) // 4 * 3 - text.count("=", -2), max_bytes)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise InvalidError.at("", _why_not_base64(text)) from None


def _why_not_base64(text: str) -> str:
    wrong = _NOT_BASE64.search(text)
    if wrong is not None and wrong.group() == "%":
        return "is percent-encoded; give plain base64"
    if wrong is not None and wrong.group() in "-_":
        return "is in the URL-safe alphabet of base64; the standard one has + and / for - and _"
    if wrong is not None:
        return "is not base64; a file is given as photo_file, and addresses are not fetched"
    if len(text) % 4:
        return "is not whole: base64 has a multiple of four characters; was it cut off, or its = signs lost?"
    return "is not base64: its = signs are not where the end is; are these several texts in one?"


def read_file(path: str, folders: Sequence[Path], max_bytes: int) -> bytes:
    """Read a regular file inside one of the folders.

    Raises:
        InvalidError: it is not inside, not there, no regular file, not readable, or more than `max_bytes`.
    """
    if not folders:
        raise InvalidError.at("", "photos.folders in the configuration names no folder that files may be read from")
    roots = [os.path.realpath(folder) for folder in folders]
    try:
        descriptor = _open_inside(path, roots)
        try:
            check_size(os.fstat(descriptor).st_size, max_bytes)
            with open(descriptor, "rb", closefd=False) as file:
                # It may have grown since.
                data = file.read(max_bytes + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise InvalidError.at("", "there is no such file") from None
    except PermissionError:
        raise InvalidError.at("", "the bridge may not read this file; give its user the right to") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise InvalidError.at("", f"cannot be read: {reason}") from None
    check_size(len(data), max_bytes)
    return data


def _open_inside(path: str, roots: Sequence[str]) -> int:
    """Open for reading what lies inside the roots once every link is followed; nothing else is even touched."""
    candidates = [Path(path)] if Path(path).is_absolute() else [Path(root, path) for root in roots]
    inside = [candidate for candidate in candidates if _is_inside(os.path.realpath(candidate), roots)]
    if not inside:
        raise InvalidError.at("", _OUTSIDE)
    chosen = next((candidate for candidate in inside if candidate.exists()), inside[0])
    # What the path means may have changed since it was looked at. O_PATH holds on to a file without opening it, so that
    # a pipe cannot block and a device does not notice; what it holds is looked at again, and only then opened.
    held = os.open(chosen, os.O_PATH | os.O_CLOEXEC)
    try:
        link = Path(f"/proc/self/fd/{held}")
        if not _is_inside(link.readlink(), roots):
            raise InvalidError.at("", _OUTSIDE)
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise InvalidError.at("", "is not a regular file")
        return os.open(link, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(held)


def _is_inside(real_path: str | Path, roots: Sequence[str]) -> bool:
    return any(Path(real_path).is_relative_to(root) for root in roots)


def check_size(length: int, max_bytes: int) -> None:
    """Raise InvalidError where a picture has more bytes than `photos.max_bytes` allows."""
    if length > max_bytes:
        raise InvalidError.at(
            "", f"has {length / 1e6:.1f} MB; at most {max_bytes / 1e6:.1f} MB are taken (photos.max_bytes)"
        )
