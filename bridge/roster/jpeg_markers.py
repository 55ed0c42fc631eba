"""Whether a JPEG conforms already, read from its markers alone (ITU T.81, annex B; JFIF 1.02)."""

import struct

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_BASELINE = 0xC0
_OTHER_FRAMES = frozenset(range(0xC1, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APPLICATION = range(0xE1, 0xF0)
_COMMENT = 0xFE
_COMPONENTS = (1, 3)
_FRAME = struct.Struct(">BHHB")


def conforming_size(picture: bytes) -> tuple[int, int] | None:
    """Return the width and height of a JPEG that may be passed on byte for byte.

    Returns:
        None for anything but a baseline JPEG in RGB or grey, with no metadata but JFIF's and nothing behind its end.
        The picture data itself is not decoded.
    """
    if not picture.startswith(b"\xff\xd8\xff") or not picture.endswith(b"\xff\xd9"):
        return None
    position = 2
    size: tuple[int, int] | None = None
    while position + 4 <= len(picture) and picture[position] == 0xFF:
        marker = picture[position + 1]
        length = int.from_bytes(picture[position + 2 : position + 4], "big")
        segment = picture[position + 4 : position + 2 + length]
        if marker in _OTHER_FRAMES or marker in _APPLICATION or marker == _COMMENT or length < 2:
            return None
        if marker == _BASELINE and len(segment) >= _FRAME.size:
            precision, height, width, components = _FRAME.unpack_from(segment)
            if precision != 8 or components not in _COMPONENTS:
                return None
            size = (width, height)
        if marker == _SOS:
            # One end marker, at the very end: a thumbnail or a second picture behind would be metadata too.
            return size if picture.find(b"\xff\xd9", position) == len(picture) - 2 else None
        position += 2 + length
    return None
