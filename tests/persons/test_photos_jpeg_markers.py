"""The structure of JPEG files: which ones are plain, and reading damaged ones."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bridge.persons.photos.jpeg_markers import JpegStructureError, Marker, Segment, count_scans, plain_size, walk
from bridge.simulator.faces import sample_photo

SIZE = (64, 80)
PLAIN = sample_photo(1, SIZE)
FRAME = PLAIN.index(b"\xff\xc0")
SCAN = PLAIN.index(b"\xff\xda")
JFIF_END = 20


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    buffer = BytesIO()
    with Image.open(BytesIO(PLAIN)) as image:
        image.convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2) + payload


def patched(position: int, value: int) -> bytes:
    return PLAIN[:position] + bytes((value,)) + PLAIN[position + 1 :]


def inserted(position: int, data: bytes) -> bytes:
    return PLAIN[:position] + data + PLAIN[position:]


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        jpeg("L"),
        jpeg(optimize=True),
        jpeg(quality=100, subsampling="4:4:4"),
        jpeg(restart_marker_blocks=4),
        # Without a JFIF header.
        PLAIN[:2] + PLAIN[JFIF_END:],
    ],
)
def test_a_plain_jpeg_is_known_by_its_size(data: bytes) -> None:
    assert plain_size(data) == SIZE


NOT_PLAIN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no JPEG": lambda: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "only a beginning": lambda: b"\xff\xd8",
    "only beginning and end": lambda: b"\xff\xd8\xff\xd9",
    "progressive": lambda: jpeg(progressive=True),
    "CMYK": lambda: jpeg("CMYK"),
    "colours kept as RGB": lambda: jpeg(keep_rgb=True),
    "EXIF": lambda: jpeg(exif=Image.Exif()),
    "ICC profile": lambda: jpeg(icc_profile=b"x" * 200),
    "XMP": lambda: jpeg(xmp=b"<x/>"),
    "comment": lambda: jpeg(comment="hello"),
    "Adobe's segment": lambda: inserted(JFIF_END, segment(0xEE, b"Adobe\0\x64\0\0\0\0\1")),
    "a second header": lambda: inserted(JFIF_END, PLAIN[2:JFIF_END]),
    "a header that is not the first": lambda: PLAIN[:2] + PLAIN[JFIF_END:FRAME] + PLAIN[2:JFIF_END] + PLAIN[FRAME:],
    "a thumbnail in the header": lambda: PLAIN[:2] + segment(0xE0, PLAIN[6:18] + b"\1\1" + bytes(3)) + PLAIN[JFIF_END:],
    "a header with room behind": lambda: PLAIN[:2] + segment(0xE0, PLAIN[6:20] + b"hidden") + PLAIN[JFIF_END:],
    "JFIF's extension": lambda: inserted(JFIF_END, segment(0xE0, b"JFXX\0\x10")),
    "rubbish between segments": lambda: inserted(JFIF_END, b"rubbish"),
    "something behind the end": lambda: PLAIN + b"\0",
    "a second picture behind the end": lambda: PLAIN + PLAIN,
    "no end": lambda: PLAIN[:-2],
    "cut off in the scan": lambda: PLAIN[: SCAN + 100],
    "cut off in a segment": lambda: PLAIN[: SCAN + 6],
    "cut off in a length": lambda: PLAIN[: SCAN + 3],
    "an impossible length": lambda: PLAIN[:SCAN] + b"\xff\xda\0\1" + PLAIN[SCAN + 4 :],
    "an empty frame": lambda: PLAIN[:FRAME] + segment(0xC0, b"") + PLAIN[FRAME:],
    "two frames": lambda: inserted(FRAME, PLAIN[FRAME : FRAME + 19]),
    "twelve bits": lambda: patched(FRAME + 4, 12),
    "no height": lambda: PLAIN[: FRAME + 5] + b"\0\0" + PLAIN[FRAME + 7 :],
    "two components": lambda: patched(FRAME + 9, 2),
    "unnamed colours": lambda: PLAIN[:2] + PLAIN[JFIF_END : FRAME + 10] + b"R" + PLAIN[FRAME + 11 :],
    "a scan of other components": lambda: patched(SCAN + 5, 9),
    "a scan of one component": lambda: PLAIN[:SCAN] + segment(0xDA, b"\1\1\0\0\x3f\0") + PLAIN[SCAN + 14 :],
    "a part of the frequencies": lambda: patched(SCAN + 12, 5),
    "two scans": lambda: PLAIN[:-2] + PLAIN[SCAN:],
    "a segment in the scan": lambda: PLAIN[:-2] + segment(0xFE, b"hidden") + PLAIN[-2:],
    "sixteen-bit quantization": lambda: inserted(JFIF_END, segment(0xDB, b"\x10" + bytes(128))),
    "an empty quantization table": lambda: inserted(JFIF_END, segment(0xDB, b"")),
    "a third Huffman table": lambda: inserted(JFIF_END, segment(0xC4, b"\2" + bytes(16))),
    "a Huffman table cut off": lambda: inserted(JFIF_END, segment(0xC4, b"\0" + b"\1" * 16)),
    "an empty Huffman table": lambda: inserted(JFIF_END, segment(0xC4, b"")),
    "arithmetic coding": lambda: inserted(JFIF_END, segment(0xCC, b"\0\1")),
    "a restart interval of another length": lambda: inserted(JFIF_END, segment(0xDD, b"\1")),
    "a restart marker before the scan": lambda: inserted(JFIF_END, b"\xff\xd0"),
    "segments without end": lambda: inserted(JFIF_END, segment(0xDD, b"\0\0") * 5000),
}


@pytest.mark.parametrize("make", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_anything_else_is_not_plain(make: Callable[[], bytes]) -> None:
    assert plain_size(make()) is None


def test_scans_are_counted_up_to_the_first_error() -> None:
    assert count_scans(PLAIN) == 1
    progressive = jpeg(progressive=True)
    assert count_scans(progressive) == progressive.count(b"\xff\xda") > 5
    assert count_scans(progressive[:-2]) == count_scans(progressive)
    assert count_scans(PLAIN + PLAIN) == 1
    assert count_scans(b"GIF89a") == 0


def test_garbage_between_segments_is_skipped_as_decoders_do() -> None:
    whole, with_rubbish = list(walk(PLAIN)), list(walk(inserted(JFIF_END, b"\0\xff\0rubbish")))
    assert [one.marker for one in with_rubbish] == [one.marker for one in whole]
    assert [one.in_place for one in with_rubbish].count(False) == 1


def test_the_end_marker_comes_with_what_follows_it() -> None:
    assert list(walk(PLAIN + b"film"))[-1] == Segment(Marker.EOI, b"film", in_place=True)


@given(st.binary() | st.integers(0, len(PLAIN)).map(lambda end: PLAIN[:end]) | st.binary().map(PLAIN.__add__))
def test_any_bytes_give_segments_or_a_structure_error(data: bytes) -> None:
    try:
        segments = list(walk(data))
    except JpegStructureError:
        assert plain_size(data) is None
        return
    assert segments[-1].marker == Marker.EOI
    assert plain_size(data) in (None, SIZE)
