"""Converts pictures to the form that every terminal can read: a baseline JPEG of limited size (docs/protocol.md).

Only this module uses Pillow, and none of Pillow's exceptions leaves it.
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
from bridge.model.messages import message
from bridge.persons.photos import MINIMUM_SIDE_PIXELS
from bridge.persons.photos.jpeg_markers import MAXIMUM_SEGMENTS, TooManySegmentsError, count_scans, plain_size

_T = TypeVar("_T")

MAXIMUM_PIXELS = 8192 * 6144
"""Of a picture before the conversion: the largest that telephones take. Decoding one took up to 340 MB of memory."""

MAXIMUM_SCANS = 100
"""Passes over a progressive JPEG. Encoders make about ten. Without a limit a small file can occupy a core for an
hour."""

MAXIMUM_SCANNED_PIXELS = 20 * MAXIMUM_PIXELS
"""Pixels times scans of a JPEG: the largest picture in colour has ten scans, one in CMYK eighteen. An empty scan of the
largest picture takes 40 ms, so a hundred would take 4 s."""

MAXIMUM_BYTES = 1024 * 1024
"""Of a photo that is passed on unchanged: 1.4 MB in base64, well below what brokers and terminals accept in one
message. A larger file is converted."""

TARGET_BYTES = 200_000
"""The size that a conversion aims at. A portrait of 1080x1080 reaches it at quality 85. A photo is sent to every
terminal of a building, and a press must not wait for it."""

_QUALITIES = (90, 85, 80, 75, 70, 60)
"""Tried in this order until the photo is small enough. The last is used in any case: below it, recognition suffers."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes a picture of each orientation upright (EXIF, tag 0x0112)."""
_SIDEWAYS = frozenset((5, 6, 7, 8))

_DECODER_ERRORS = (
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
"""Exceptions of Pillow and its plugins for a damaged file: seen when each format was fuzzed, or expected by Pillow
itself. Their texts say no more than that the file is damaged."""

_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))

_OTHER_FORMATS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"<", "text (SVG, HTML or XML)"),
)


def ignore_decoder_warnings() -> None:
    """Ignore Pillow's warnings about unusual metadata, which would write untrusted text to stderr.

    This holds for the whole process.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def convert_photo(data: bytes, box: tuple[int, int]) -> bytes:
    """Make a picture upright according to its EXIF, scale it down, and return a baseline JPEG without metadata.

    The same picture gives the same bytes (with the same Pillow). One that already conforms is returned unchanged.

    Args:
        data: JPEG, PNG, WebP or, where pillow-heif is installed, HEIC; the first of several frames is used.
        box: the largest width and height in pixels.

    Raises:
        InvalidError: the data are no such picture, or damaged, too small, too narrow or too large to be decoded.
    """
    if _conforms(data, box):
        return data
    image = _open(data)
    width, height = image.size
    if min(width, height) < MINIMUM_SIDE_PIXELS:
        raise InvalidError.at(
            "",
            message(
                "is %(width)sx%(height)s pixels; each side needs at least %(min_side_pixels)s",
                width=width,
                height=height,
                min_side_pixels=MINIMUM_SIDE_PIXELS,
            ),
        )
    if width * height > MAXIMUM_PIXELS:
        raise InvalidError.at(
            "",
            message(
                "is %(width)sx%(height)s pixels; at most %(max_pixels)s million are accepted: scale it down",
                width=width,
                height=height,
                max_pixels=format(MAXIMUM_PIXELS / 1e6, ".0f"),
            ),
        )
    image = _guarded(lambda: _decode(image, box))
    if min(image.size) < MINIMUM_SIDE_PIXELS:
        raise InvalidError.at(
            "",
            message(
                "is %(width)sx%(height)s pixels, too narrow: scaled to fit %(box)sx%(box2)s one side would have less"
                " than %(min_side_pixels)s; crop it to the face",
                width=width,
                height=height,
                box=box[0],
                box2=box[1],
                min_side_pixels=MINIMUM_SIDE_PIXELS,
            ),
        )
    return _guarded(lambda: _encode(image))


def _conforms(data: bytes, box: tuple[int, int]) -> bool:
    """Return whether the bytes can be sent unchanged."""
    if len(data) > MAXIMUM_BYTES:
        return False
    size = plain_size(data)
    if size is None or size[0] > box[0] or size[1] > box[1] or min(size) < MINIMUM_SIDE_PIXELS:
        return False
    image = _guarded(lambda: JpegImageFile(BytesIO(data)))
    if image.size != size or image.mode not in ("L", "RGB"):
        return False
    # Reads all of the scan, but computes one pixel of each 64: this shows damage in half the time.
    image.draft(image.mode, (1, 1))
    _guarded(image.load)
    return True


def _guarded(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except MemoryError:
        raise InvalidError.at("", "needs too much memory to be decoded: it is damaged, or scale it down") from None
    except _DECODER_ERRORS:
        raise InvalidError.at("", "is damaged or cut off: it cannot be decoded") from None


def _open(data: bytes) -> Image.Image:
    """Read a picture's header. Its pixels are decoded after their number was checked.

    Each format's class is called directly, because the limit of pixels in `Image.open` holds for the whole process.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _open_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _guarded(lambda: PngImageFile(BytesIO(data)))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _guarded(lambda: WebPImageFile(BytesIO(data)))
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return _open_heif(data)
    for beginning, name in _OTHER_FORMATS:
        if data.startswith(beginning):
            raise InvalidError.at("", message("is %(name)s; give a JPEG, PNG, WebP or HEIC", name=name))
    raise InvalidError.at("", "is not a picture; give a JPEG, PNG, WebP or HEIC")


def _open_jpeg(data: bytes) -> Image.Image:
    try:
        scans = count_scans(data)
    except TooManySegmentsError:
        raise InvalidError.at(
            "",
            message(
                "is a JPEG of more than %(max_segments)s segments; save it again as a baseline JPEG",
                max_segments=MAXIMUM_SEGMENTS,
            ),
        ) from None
    if scans > MAXIMUM_SCANS:
        raise InvalidError.at(
            "",
            message(
                "is a JPEG of more than %(max_scans)s scans; save it again as a baseline JPEG", max_scans=MAXIMUM_SCANS
            ),
        )
    image = _guarded(lambda: JpegImageFile(BytesIO(data)))
    width, height = image.size
    # The caller refuses a larger picture, with another message.
    if width * height <= MAXIMUM_PIXELS and width * height * scans > MAXIMUM_SCANNED_PIXELS:
        raise InvalidError.at(
            "",
            message(
                "is a JPEG of %(scans)s scans, too many for %(width)sx%(height)s pixels;"
                " save it again as a baseline JPEG",
                scans=scans,
                width=width,
                height=height,
            ),
        )
    return image


def _open_heif(data: bytes) -> Image.Image:
    try:
        pillow_heif = import_module("pillow_heif")
    except ImportError:
        raise InvalidError.at(
            "", "is a HEIC, which this installation cannot read: install facebridge[heif], or give a JPEG"
        ) from None
    # Its decoder makes the picture upright and resets the orientation in its EXIF.
    return _guarded(lambda: cast("Image.Image", pillow_heif.HeifImageFile(BytesIO(data))))


def _decode(image: Image.Image, box: tuple[int, int]) -> Image.Image:
    """Return the picture upright, within the box, in grey or RGB."""
    orientation = _orientation(image)
    image = _eight_bits(image)
    if orientation in _SIDEWAYS:
        box = (box[1], box[0])
    profile = image.info.get("icc_profile")
    image.thumbnail(box, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = _on_white(image)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if isinstance(profile, bytes):
        image = _to_srgb(image, profile)
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except _DECODER_ERRORS:
        # Every viewer shows a picture with damaged EXIF as if it had none.
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the picture with eight bits per channel, in a mode that can be scaled with LANCZOS."""
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
    except _DECODER_ERRORS:
        # The profile is damaged, or for another colour model than the picture: keep the colours unchanged.
        return image
    return image if converted is None else converted


def _encode(image: Image.Image) -> bytes:
    # Without this Pillow would write the comment that it has read.
    image.info.clear()
    encoded = b""
    for quality in _QUALITIES:
        buffer = BytesIO()
        image.save(buffer, format="JPEG", quality=quality)
        encoded = buffer.getvalue()
        if len(encoded) <= TARGET_BYTES:
            break
    return encoded
