"""Makes of whatever picture somebody has the one kind that every terminal can read (CONTRACT, section 4).

All of Pillow is behind this module, and none of its exceptions leaves it.
"""

import struct
import warnings
import zlib
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from typing import TypeVar, cast

from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from bridge.model.faults import InvalidError
from bridge.persons.photos.jpeg_markers import count_scans, plain_size

_T = TypeVar("_T")

MAXIMUM_SIDE = 1080
"""Pixels of a photo's width and of its height (PROTOCOL)."""

MINIMUM_SIDE = 32
"""Pixels of the shorter side, as it comes in and as it is sent (CONTRACT, section 4)."""

MAXIMUM_PIXELS = 8192 * 6144
"""Of a picture as it comes in: what the largest telephones make by themselves. Up to 340 MB were measured while one was
decoded."""

MAXIMUM_SCANS = 100
"""Passes over a progressive JPEG. Encoders make about ten; without a bound a small file can keep a core busy for an
hour."""

MAXIMUM_BYTES = 1024 * 1024
"""Of a photo: 1.4 MB in base64, well below what brokers and terminals take in one message. One that is larger does not
conform, whatever its pixels."""

TARGET_BYTES = 200_000
"""What a photo is to fit into where its quality allows. A portrait of 1080x1080 does at quality 85; it is sent to every
terminal of a building, and a press must never wait for it."""

_QUALITIES = (90, 85, 80, 75, 70, 60)
"""Tried in turn until the photo fits; the last is taken in any case, as recognition suffers below."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to put right what was taken with each orientation (EXIF, tag 0x0112)."""
_ON_THEIR_SIDE = frozenset((5, 6, 7, 8))

_WHAT_DECODERS_RAISE = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    ImageCms.PyCMSError,
)
"""Of Pillow and its plugins, for a damaged file: seen when each format was fuzzed, or what Pillow itself expects of
them. None says more than that the file is damaged."""

_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))

_OTHER_FORMATS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"<", "text (SVG, HTML or XML)"),
)
_ACCEPTED = "give a JPEG, PNG, WebP or HEIC"


def ignore_decoder_warnings() -> None:
    """Have Pillow's warnings of odd metadata ignored, which would put what strangers sent on stderr.

    In the whole process, as `warnings.catch_warnings` does not work in threads.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def convert_photo(data: bytes, box: tuple[int, int]) -> bytes:
    """Turn a picture as its EXIF says, scale it down to fit, and make it a baseline JPEG without metadata.

    The same picture gives the same bytes (with the same Pillow). One that conforms already is returned as it is.

    Args:
        data: JPEG, PNG, WebP or, where pillow-heif is installed, HEIC; of several frames the first is taken.
        box: width and height in pixels that it has to fit into.

    Raises:
        InvalidError: it is no such picture, damaged, too small, too narrow or too large to be decoded.
    """
    if _conforms(data, box):
        return data
    image = _open(data)
    width, height = image.size
    if min(width, height) < MINIMUM_SIDE:
        raise InvalidError.at("", f"is {width}x{height} pixels; each side needs at least {MINIMUM_SIDE}")
    if width * height > MAXIMUM_PIXELS:
        raise InvalidError.at(
            "", f"is {width}x{height} pixels; at most {MAXIMUM_PIXELS / 1e6:.0f} million are taken: scale it down"
        )
    image = _guarded(lambda: _decode(image, box))
    if min(image.size) < MINIMUM_SIDE:
        raise InvalidError.at(
            "",
            f"is {width}x{height} pixels, too narrow: scaled to fit {box[0]}x{box[1]} "
            f"a side would have less than {MINIMUM_SIDE}; crop it to the face",
        )
    return _guarded(lambda: _encode(image))


def _conforms(data: bytes, box: tuple[int, int]) -> bool:
    """Tell whether a terminal can have these very bytes."""
    if len(data) > MAXIMUM_BYTES:
        return False
    size = plain_size(data)
    if size is None or size[0] > box[0] or size[1] > box[1] or min(size) < MINIMUM_SIDE:
        return False
    image = _guarded(lambda: JpegImageFile(BytesIO(data)))
    _guarded(image.load)
    return image.size == size and image.mode in ("L", "RGB")


def _guarded(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except _WHAT_DECODERS_RAISE:
        raise InvalidError.at("", "is damaged or cut off: it cannot be decoded") from None


def _open(data: bytes) -> Image.Image:
    """Read a picture's header. Its pixels are decoded later, once they were found to be few enough.

    Each format's class is called by itself: `Image.open` has a limit of pixels that is the whole process's.
    """
    if data.startswith(b"\xff\xd8\xff"):
        if count_scans(data) > MAXIMUM_SCANS:
            raise InvalidError.at("", f"is a JPEG of more than {MAXIMUM_SCANS} scans; save it anew")
        return _guarded(lambda: JpegImageFile(BytesIO(data)))
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _guarded(lambda: PngImageFile(BytesIO(data)))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _guarded(lambda: WebPImageFile(BytesIO(data)))
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return _open_heif(data)
    for beginning, name in _OTHER_FORMATS:
        if data.startswith(beginning):
            raise InvalidError.at("", f"is {name}; {_ACCEPTED}")
    raise InvalidError.at("", f"is no picture; {_ACCEPTED}")


def _open_heif(data: bytes) -> Image.Image:
    try:
        pillow_heif = import_module("pillow_heif")
    except ImportError:
        raise InvalidError.at(
            "", "is a HEIC, which this installation cannot read: install facebridge[heif], or give a JPEG"
        ) from None
    # Turned by its decoder already, which also resets the orientation in its EXIF.
    return _guarded(lambda: cast("Image.Image", pillow_heif.HeifImageFile(BytesIO(data))))


def _decode(image: Image.Image, box: tuple[int, int]) -> Image.Image:
    """Return the picture upright, within the box, grey or in RGB."""
    orientation = _orientation(image)
    image = _eight_bits(image)
    if orientation in _ON_THEIR_SIDE:
        box = (box[1], box[0])
    profile = image.info.get("icc_profile")
    image.thumbnail(box, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = _on_white(image)
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if isinstance(profile, bytes):
        image = _to_srgb(image, profile)
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except _WHAT_DECODERS_RAISE:
        # A picture whose EXIF is damaged is shown as it is by every viewer.
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the picture with eight bits a channel, in a mode that can be scaled smoothly."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    background = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(background, image).convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except _WHAT_DECODERS_RAISE:
        # A profile that is damaged, or of another kind than the picture: colours as they are will do.
        return image
    return image if converted is None else converted


def _encode(image: Image.Image) -> bytes:
    # Pillow writes the comment it has read, unless there is none.
    image.info.clear()
    encoded = b""
    for quality in _QUALITIES:
        buffer = BytesIO()
        image.save(buffer, format="JPEG", quality=quality)
        encoded = buffer.getvalue()
        if len(encoded) <= TARGET_BYTES:
            break
    return encoded
