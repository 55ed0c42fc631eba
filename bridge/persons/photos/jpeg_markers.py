"""Reads the structure of a JPEG file without decoding its picture (ITU-T T.81, annex B; JFIF 1.02)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MAXIMUM_SEGMENTS = 2000
"""Segments that are read. Ten megabytes of metadata need 160 of the largest segments, and a progressive picture with
tables for each scan needs some dozens."""


class Marker(IntEnum):
    """The second byte of each segment of a plain JPEG, with the standard's names."""

    SOF0 = 0xC0
    DHT = 0xC4
    EOI = 0xD9
    SOS = 0xDA
    DQT = 0xDB
    DRI = 0xDD
    APP0 = 0xE0


_START_OF_IMAGE = b"\xff\xd8"

_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MARKER_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In a scan an encoder inserts a zero after each 0xFF, and restart markers (D0 to D7) belong to the scan."""


class JpegStructureError(Exception):
    """The file does not begin as a JPEG, or has no readable end marker."""


class TooManySegmentsError(JpegStructureError):
    """The file has more than `MAXIMUM_SEGMENTS`: a decoder might read scans that were not counted."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of the file.

    Attributes:
        marker: its second byte.
        payload: the bytes that its length counts, without the length; for the end marker, all bytes after it.
        in_place: whether it begins where the segment before it, or that segment's scan, has ended.
    """

    marker: int
    payload: bytes
    in_place: bool


def walk(data: bytes) -> Iterator[Segment]:
    """Yield the segments up to the end marker. Skip garbage between them, as decoders do.

    Raises:
        TooManySegmentsError: the file has more than `MAXIMUM_SEGMENTS`.
        JpegStructureError: the file does not begin as a JPEG, or ends too early.
    """
    if not data.startswith(_START_OF_IMAGE):
        raise JpegStructureError("not a JPEG")
    position = len(_START_OF_IMAGE)
    after_scan = False
    for _ in range(MAXIMUM_SEGMENTS):
        found = (_MARKER_AFTER_SCAN if after_scan else _MARKER).search(data, position)
        if found is None:
            raise JpegStructureError("ends before its end marker")
        marker = data[found.end() - 1]
        in_place = after_scan or found.start() == position
        position = found.end()
        if marker == Marker.EOI:
            yield Segment(marker, data[position:], in_place)
            return
        # The length counts its own two bytes. Decoders read a smaller one as an empty segment, so they find the scans
        # behind it.
        length = 0 if marker in _WITHOUT_LENGTH else max(int.from_bytes(data[position : position + 2]), 2)
        payload = data[position + 2 : position + length]
        if length > 0 and len(payload) != length - 2:
            raise JpegStructureError("ends within a segment")
        position += length
        after_scan = marker == Marker.SOS
        yield Segment(marker, payload, in_place)
    raise TooManySegmentsError("has too many segments")


def count_scans(data: bytes) -> int:
    """Return how many passes over the picture a decoder makes, up to the first structural error.

    Raises:
        TooManySegmentsError: not all scans could be counted.
    """
    scans = 0
    try:
        for segment in walk(data):
            scans += segment.marker == Marker.SOS
    except TooManySegmentsError:
        raise
    except JpegStructureError:
        return scans
    return scans


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Return the size of a JPEG that every decoder reads the same and that contains only its picture.

    That is: baseline (SOF0, eight bits), grey or YCbCr, a single scan, no application segment except a JFIF header
    without a thumbnail, no comment, and nothing after the end marker. The scan itself is not decoded.

    Returns:
        Width and height; None for every other file.
    """
    plain = _PlainJpeg()
    try:
        for segment in walk(data):
            if not plain.accepts(segment):
                return None
    except JpegStructureError:
        return None
    return plain.size if plain.scanned else None


class _PlainJpeg:
    """Accepts the segments of a plain JPEG, one after the other, and refuses every other segment."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self.scanned = False
        self._components = b""
        self._jfif = False
        self._first = True

    def accepts(self, segment: Segment) -> bool:
        """Read the next segment; return whether a plain JPEG may have it here."""
        first, self._first = self._first, False
        if not segment.in_place:
            return False
        if self.scanned:
            return segment.marker == Marker.EOI and not segment.payload
        match segment.marker:
            case Marker.APP0:
                self._jfif = first and _is_jfif(segment.payload)
                return self._jfif
            case Marker.SOF0:
                return self._accepts_frame(segment.payload)
            case Marker.DQT:
                return _is_quantization(segment.payload)
            case Marker.DHT:
                return _is_huffman(segment.payload)
            case Marker.DRI:
                return len(segment.payload) == 2
            case Marker.SOS:
                return self._accepts_scan(segment.payload)
        return False

    def _accepts_frame(self, payload: bytes) -> bool:
        if self.size is not None or len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
            return False
        precision, height, width = payload[0], int.from_bytes(payload[1:3]), int.from_bytes(payload[3:5])
        self.size = (width, height)
        self._components = payload[6::3]
        # Without a JFIF header, decoders guess the colour model from the ids of the components.
        colours = len(self._components) == 3 and (self._jfif or self._components == b"\x01\x02\x03")
        return precision == 8 and (colours or len(self._components) == 1) and min(self.size) > 0

    def _accepts_scan(self, payload: bytes) -> bool:
        self.scanned = True
        count = len(self._components)
        return (
            count > 0
            and len(payload) == 4 + 2 * count
            and payload[0] == count
            and payload[1 : 1 + 2 * count : 2] == self._components
            and payload[-3:] == b"\x00\x3f\x00"
        )


def _is_jfif(payload: bytes) -> bool:
    """Return whether this is a JFIF header without a thumbnail."""
    return len(payload) == 14 and payload.startswith(b"JFIF\0") and payload.endswith(b"\0\0")


def _is_quantization(payload: bytes) -> bool:
    """Return whether these are tables of eight bits; wider ones are not baseline."""
    return len(payload) > 0 and len(payload) % 65 == 0 and all(number < 4 for number in payload[::65])


def _is_huffman(payload: bytes) -> bool:
    """Return whether these are tables that baseline allows: two of each class."""
    position = 0
    while position < len(payload):
        if payload[position] not in (0x00, 0x01, 0x10, 0x11):
            return False
        position += 17 + sum(payload[position + 1 : position + 17])
    return 0 < position == len(payload)
