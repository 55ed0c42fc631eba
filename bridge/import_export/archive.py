"""Reads a ZIP of a table and pictures, which may be damaged, or made to fill memory or disk when it is unpacked."""

import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from bridge.import_export.pictures import MAXIMUM_SHOWN_NAME_LENGTH, Pictures, picture_id
from bridge.import_export.rows import ByteSource, PersonFileError
from bridge.model.faults import InvalidError, shorten
from bridge.model.messages import message
from bridge.persons.photos.sources import AttachedPhoto, check_size

MAXIMUM_MEMBERS = 100_001
"""Members of an archive: the table, and a picture for each person of the largest archive that an export writes."""

_MAXIMUM_TABLE_BYTES = 2 * 1024**3
"""Of a table, unpacked. The largest import that the bridge is designed for has 1.4 GB, with its photos as base64."""

_MAXIMUM_READ_BYTES = 16 * 1024 * 1024
"""Bytes that zipfile may read from the file at once. It reads the whole list of members before their number is known;
a member takes about 150 bytes."""

_PIECE_BYTES = 1024 * 1024
"""Bytes of a picture that are read at once."""

_ENCRYPTED = 0x1
_READABLE = (ZIP_STORED, ZIP_DEFLATED)
"""The methods that every tool writes. The others are rare and can need gigabytes of memory to unpack one picture."""

_BROKEN = (BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises for archives that are cut off, damaged, closed or unusual."""
_DAMAGED = message("the archive is damaged; create it again")


class _BoundedFile:
    """A file that refuses to read large pieces at once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _MAXIMUM_READ_BYTES:
            raise PersonFileError("the archive has too many members; split it up")
        return self._stream.read(size)


class Archive:
    """A table and pictures in an archive. Several threads may read pictures at once."""

    def __init__(self, archive: ZipFile) -> None:
        """Find the table and the pictures. Raises PersonFileError."""
        self._archive = archive
        # zipfile counts its open members without a lock of its own.
        self._lock = threading.Lock()
        members = [one for one in archive.infolist() if not one.is_dir() and "__MACOSX" not in _parts(one.filename)]
        if len(members) > MAXIMUM_MEMBERS:
            raise PersonFileError(
                message("the archive has more than %(max_members)s members; split it up", max_members=MAXIMUM_MEMBERS)
            )
        tables = [one for one in members if _parts(one.filename)[-1].lower().endswith((".csv", ".json"))]
        if len(tables) != 1:
            found = ", ".join(shorten(one.filename) for one in tables[:5]) or "none"
            raise PersonFileError(
                message("the archive must hold one table, a .csv or a .json; found %(found)s", found=found)
            )
        self._table = tables[0]
        _check_member(self._table)
        if self._table.file_size > _MAXIMUM_TABLE_BYTES:
            raise PersonFileError(
                message(
                    "the table has more than %(max_table_bytes)s GB unpacked; split it up",
                    max_table_bytes=_MAXIMUM_TABLE_BYTES // 1024**3,
                )
            )
        self.pictures = Pictures(self._pictures(members))

    @property
    def table_name(self) -> str:
        """The file name of the table."""
        return self._table.filename

    @contextmanager
    def open_table(self) -> Iterator[ByteSource]:
        """Return the table's bytes. Raises PersonFileError, also while they are read."""
        stream = self._open_table()
        try:
            yield ByteSource(partial(_read_table, stream), self._table.file_size)
        finally:
            with self._lock:
                stream.close()

    def _open_table(self) -> IO[bytes]:
        try:
            with self._lock:
                return self._archive.open(self._table)
        except _BROKEN:
            raise PersonFileError(_DAMAGED) from None

    def _pictures(self, members: list[ZipInfo]) -> Iterator[tuple[str, AttachedPhoto]]:
        for member in members:
            person_id = picture_id(_parts(member.filename)[-1])
            if person_id is not None:
                _check_member(member)
                yield (
                    person_id,
                    AttachedPhoto(
                        shorten(member.filename, MAXIMUM_SHOWN_NAME_LENGTH), partial(self._read_picture, member)
                    ),
                )

    def _read_picture(self, member: ZipInfo, max_bytes: int) -> bytes:
        check_size(member.file_size, max_bytes)
        try:
            # One at a time. This costs little: preparing a picture takes far longer than reading it.
            with self._lock, self._archive.open(member) as stream:
                # zipfile stops at the size that the archive states, and checks the CRC there.
                return b"".join(iter(partial(stream.read, _PIECE_BYTES), b""))
        except _BROKEN:
            raise InvalidError.at("", "cannot be read: the archive is damaged here; create it again") from None

    def close(self) -> None:
        """Close the file; its pictures cannot be read any more."""
        with self._lock:
            self._archive.close()


@contextmanager
def open_archive(file: Path) -> Iterator[Archive]:
    """Open a ZIP. Raises PersonFileError."""
    with open_file(file) as stream:
        try:
            archive = ZipFile(_BoundedFile(stream))
        except _BROKEN:
            raise PersonFileError("is not a ZIP, or is damaged; create it again") from None
        opened = Archive(archive)
        try:
            yield opened
        finally:
            opened.close()


def open_file(file: Path) -> BinaryIO:
    """Open a file to read. Raises PersonFileError."""
    try:
        return file.open("rb")
    except FileNotFoundError:
        raise PersonFileError("there is no such file") from None
    except OSError as error:
        raise PersonFileError(message("cannot be read: %(strerror)s", strerror=error.strerror)) from None


def _parts(name: str) -> list[str]:
    # Some tools on Windows write backslashes; an id never contains one.
    return re.split(r"[/\\]", name)


def _check_member(member: ZipInfo) -> None:
    name = shorten(member.filename)
    if member.flag_bits & _ENCRYPTED:
        raise PersonFileError(message("%(name)s in the archive is encrypted; create it without a password", name=name))
    if member.compress_type not in _READABLE:
        raise PersonFileError(
            message(
                "%(name)s in the archive is compressed with a method that is not supported; use ordinary ZIP (deflate)",
                name=name,
            )
        )


def _read_table(stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except _BROKEN:
        raise PersonFileError(_DAMAGED) from None
