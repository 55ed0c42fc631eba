"""The structure of a JPEG file, read without decoding its picture (ITU-T T.81, annex B; JFIF 1.02)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MAXIMUM_SEGMENTS = 2000
"""Segments that are looked at. Ten megabytes of metadata take 160 of the largest, and a progressive picture with tables
for each scan some dozens."""


class Marker(IntEnum):
    """The second byte of each segment that a plain JPEG is made of, under the standard's names."""

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
"""In a scan a zero is stuffed behind each 0xFF, and restart markers (D0 to D7) belong to it."""


class JpegStructureError(Exception):
    """The file does not begin as a JPEG, or cannot be followed to its end marker."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file.

    Attributes:
        marker: its second byte.
        payload: what its length counts, without the length; of the end marker, all that follows it.
        in_place: it begins where the segment before it, or that one's scan, has ended.
    """

    marker: int
    payload: bytes
    in_place: bool


def walk(data: bytes) -> Iterator[Segment]:
    """Go through the segments to the end marker, over rubbish between them as decoders do.

    Raises:
        JpegStructureError: it does not begin as a JPEG, ends too early, or has more than `MAXIMUM_SEGMENTS`.
    """
    if not data.startswith(_START_OF_IMAGE):
        raise JpegStructureError("no JPEG")
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
        length = 0 if marker in _WITHOUT_LENGTH else int.from_bytes(data[position : position + 2])
        payload = data[position + 2 : position + length]
        if length > 0 and len(payload) != length - 2:
            raise JpegStructureError("ends within a segment")
        position += length
        after_scan = marker == Marker.SOS
        yield Segment(marker, payload, in_place)
    raise JpegStructureError("has too many segments")


def count_scans(data: bytes) -> int:
    """Return how many passes over the picture a decoder makes, as far as the file can be followed."""
    scans = 0
    try:
        for segment in walk(data):
            scans += segment.marker == Marker.SOS
    except JpegStructureError:
        return scans
    return scans


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Tell whether this is a JPEG that every decoder reads the same and that holds nothing but its picture.

    That is: baseline (SOF0, eight bits), grey or YCbCr, a single scan, no application segment but a JFIF header without
    a thumbnail, no comment, and nothing after the end. Whether the scan can be decoded is not looked at.

    Returns:
        Width and height; None where it is anything else.
    """
    plain = _PlainJpeg()
    try:
        for segment in walk(data):
            if not plain.takes(segment):
                return None
    except JpegStructureError:
        return None
    return plain.size if plain.scanned else None


class _PlainJpeg:
    """Takes the segments of a plain JPEG, one after the other, and nothing else."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self.scanned = False
        self._components = b""
        self._jfif = False
        self._first = True

    def takes(self, segment: Segment) -> bool:
        """Take the next segment; return False where it has no place here."""
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
                return self._takes_frame(segment.payload)
            case Marker.DQT:
                return _is_quantization(segment.payload)
            case Marker.DHT:
                return _is_huffman(segment.payload)
            case Marker.DRI:
                return len(segment.payload) == 2
            case Marker.SOS:
                return self._takes_scan(segment.payload)
        return False

    def _takes_frame(self, payload: bytes) -> bool:
        if self.size is not None or len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
            return False
        precision, height, width = payload[0], int.from_bytes(payload[1:3]), int.from_bytes(payload[3:5])
        self.size = (width, height)
        self._components = payload[6::3]
        # Where there is no JFIF header, decoders guess the colours from what the components are called.
        colours = len(self._components) == 3 and (self._jfif or self._components == b"\x01\x02\x03")
        return precision == 8 and (colours or len(self._components) == 1) and min(self.size) > 0

    def _takes_scan(self, payload: bytes) -> bool:
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
    """Tell whether this is a JFIF header without a thumbnail."""
    return len(payload) == 14 and payload.startswith(b"JFIF\0") and payload.endswith(b"\0\0")


def _is_quantization(payload: bytes) -> bool:
    """Tell whether these are tables of eight bits; wider ones are not baseline."""
    return len(payload) > 0 and len(payload) % 65 == 0 and all(number < 4 for number in payload[::65])


def _is_huffman(payload: bytes) -> bool:
    """Tell whether these are tables that baseline allows: two of each class."""
    position = 0
    while position < len(payload):
        if payload[position] not in (0x00, 0x01, 0x10, 0x11):
            return False
        position += 17 + sum(payload[position + 1 : position + 17])
    return 0 < position == len(payload)
