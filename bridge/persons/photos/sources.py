"""The sources of a person's picture, and reading untrusted pictures from them within limits."""

import binascii
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bridge.model.faults import InvalidError, shorten
from bridge.model.messages import message


@dataclass(frozen=True, slots=True)
class InlinePhoto:
    """A picture in the person's JSON.

    Attributes:
        text: base64 or a data URI; not checked yet.
    """

    FIELD: ClassVar[str] = "photo"

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A picture in one of the `photos.folders`.

    Attributes:
        path: absolute, or relative to one of the folders; not checked yet.
    """

    FIELD: ClassVar[str] = "photo_file"

    path: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttachedPhoto:
    """A picture beside a table of persons, in a folder or an archive.

    Attributes:
        name: the picture's file name, for messages.
        read: takes the maximum number of bytes and returns the picture's bytes, not checked yet. Runs in a thread.
            Raises InvalidError if the picture cannot be read or has more bytes.
    """

    FIELD: ClassVar[str] = "photo"

    name: str
    read: Callable[[int], bytes] = field(repr=False)


PhotoSource = InlinePhoto | PhotoFile | AttachedPhoto
"""A picture as a user gives it; `FIELD` is the field of the person that gives it."""

_MAXIMUM_PREFIX_LENGTH = 256
"""Characters before a data URI's comma: a media type, and parameters, which are ignored."""
_DATA_PREFIX = re.compile(r"data:[^,;]*(?:;[^,;]*)*?;base64", re.IGNORECASE)
_WHITE_SPACE = " \t\n\r\f\v"
_OUTSIDE = message("must lie inside one of photos.folders of the configuration")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")


def read_inline(text: str, max_bytes: int) -> bytes:
    """Decode base64 or a data URI.

    White space is allowed, because the tool `base64` wraps its lines. Everything else is strict, so that a picture that
    was cut off or damaged on its way is reported.

    Raises:
        InvalidError: the text is neither, or has more than `max_bytes` decoded.
    """
    if text[:5].lower() == "data:":
        prefix, comma, _ = text[: _MAXIMUM_PREFIX_LENGTH + 1].partition(",")
        if not comma or _DATA_PREFIX.fullmatch(prefix) is None:
            raise InvalidError.at("", 'a data URI must begin like "data:image/jpeg;base64,"')
        text = text[len(prefix) + 1 :]
    try:
        return _decode(text, max_bytes)
    except ValueError:
        # Most texts have no white space: to look for it takes nearly as long as to decode them. A regular expression
        # takes 2 ms for 100 KB and does not release the interpreter lock, so presses would wait.
        for space in _WHITE_SPACE:
            text = text.replace(space, "")
    if not text:
        raise InvalidError.at("", "is empty")
    check_size(_decoded_length(text), max_bytes)
    try:
        return _decode(text, max_bytes)
    except ValueError:
        raise InvalidError.at("", _why_not_base64(text)) from None


def _decode(text: str, max_bytes: int) -> bytes:
    """Decode base64 without white space. Raises ValueError if it is empty, too long or something else."""
    if not text or _decoded_length(text) > max_bytes:
        raise ValueError
    return binascii.a2b_base64(text, strict_mode=True)


def _decoded_length(text: str) -> int:
    # Four characters are three bytes.
    return len(text) // 4 * 3 - text.count("=", -2)


def _why_not_base64(text: str) -> str:
    wrong = _NOT_BASE64.search(text)
    if wrong is not None and wrong.group() == "%":
        return message("is percent-encoded; give plain base64")
    if wrong is not None and wrong.group() in "-_":
        return message("is in the URL-safe alphabet of base64; the standard one has + and / for - and _")
    if wrong is not None:
        return message("is not base64; give a file as photo_file; addresses are not fetched")
    if len(text) % 4:
        return message("is incomplete: base64 has a multiple of four characters; was it cut off, or its = signs lost?")
    return message("is not base64: it has = signs before its end; are these several texts in one?")


def read_file(path: str, folders: Sequence[Path], max_bytes: int) -> bytes:
    """Read a regular file inside one of the folders.

    Raises:
        InvalidError: the file is outside, missing, not a regular file, not readable, or larger than `max_bytes`.
    """
    if not folders:
        raise InvalidError.at("", "files cannot be read: list their folder in photos.folders of the configuration")
    roots = [os.path.realpath(folder) for folder in folders]
    try:
        descriptor = _open_inside(path, roots)
        try:
            check_size(os.fstat(descriptor).st_size, max_bytes)
            with open(descriptor, "rb", closefd=False) as file:
                # The file may have grown since.
                data = file.read(max_bytes + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        looked_for = Path(path) if Path(path).is_absolute() else Path(roots[0], path)
        more = ""
        if len(roots) > 1 and not Path(path).is_absolute():
            more = message(", nor in the other %(num)s", num=len(roots) - 1)
        raise InvalidError.at(
            "",
            message(
                "there is no such file: %(looked_for)s%(more)s", looked_for=shorten(str(looked_for), 200), more=more
            ),
        ) from None
    except PermissionError:
        raise InvalidError.at("", "the bridge may not read this file; allow its user to read it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a path"
        raise InvalidError.at("", message("cannot be read: %(reason)s", reason=reason)) from None
    check_size(len(data), max_bytes)
    return data


def _open_inside(path: str, roots: Sequence[str]) -> int:
    """Open a file for reading if it is inside the roots after all links are followed; open nothing else."""
    candidates = [Path(path)] if Path(path).is_absolute() else [Path(root, path) for root in roots]
    inside = [candidate for candidate in candidates if _is_inside(os.path.realpath(candidate), roots)]
    if not inside:
        raise InvalidError.at("", _OUTSIDE)
    chosen = next((candidate for candidate in inside if candidate.exists()), inside[0])
    # The path may lead to another file than at the check above. O_PATH refers to a file without opening it, so a pipe
    # cannot block and a device does not react. The file that it refers to is checked again, and only then opened.
    descriptor = os.open(chosen, os.O_PATH | os.O_CLOEXEC)
    try:
        link = Path(f"/proc/self/fd/{descriptor}")
        if not _is_inside(link.readlink(), roots):
            raise InvalidError.at("", _OUTSIDE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidError.at("", "is not a regular file")
        return os.open(link, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)


def _is_inside(real_path: str | Path, roots: Sequence[str]) -> bool:
    return any(Path(real_path).is_relative_to(root) for root in roots)


def check_size(length: int, max_bytes: int) -> None:
    """Raise InvalidError if a picture has more bytes than `photos.max_bytes` allows."""
    if length > max_bytes:
        raise InvalidError.at(
            "",
            message(
                "%(length)s MB, at most %(max_bytes)s MB are accepted (photos.max_bytes)",
                length=format(length / 1e6, ".1f"),
                max_bytes=format(max_bytes / 1e6, ".1f"),
            ),
        )
