"""Pictures put right before they are stored (CONTRACT, section 4): turned, converted, scaled, stripped."""

import asyncio
import base64
import binascii
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from bridge.model.faults import InvalidError
from bridge.roster.jpeg_markers import conforming_size
from bridge.roster.person_schema import InlinePhoto, PhotoFile, PhotoSource

LARGEST = (1080, 1080)
"""Pixels, as the vendor allows at most (PROTOCOL, setPerson)."""
SMALLEST = 32
"""Pixels on a side: a face of less shows nothing to recognise."""
_MAXIMUM_PIXELS = 64_000_000
"""Pixels of a picture as it comes in: today's phones make 50 million; decoded it takes four bytes each."""
_QUALITIES = (90, 80, 70, 60, 50)
_AIM = 200 * 1024
"""Bytes a photo should have: it crosses the network to every terminal, in front of the next person."""
_WORKERS = 2
"""Pictures that are worked on at once; Pillow lets go of the interpreter lock, presses go on."""

_FORMATS = ("JPEG", "PNG", "WEBP")
_HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"heim", b"heis")


@dataclass(frozen=True, slots=True)
class PreparedPhoto:
    """A picture that a terminal can take.

    Attributes:
        sha256: of its bytes, in hex.
        jpeg: a baseline JPEG.
    """

    sha256: str
    jpeg: bytes = field(repr=False)


class PhotoPreparer:
    """Prepares pictures in worker threads."""

    def __init__(self, folders: Sequence[Path], max_bytes: int, size: tuple[int, int] | None) -> None:
        """Build the preparer.

        Args:
            folders: that files may come from (`photos.folders`).
            max_bytes: of a picture as it comes in (`photos.max_bytes`).
            size: width and height that every photo is fitted into (`photos.size`); None keeps what is no larger than
                `LARGEST`.
        """
        self._folders = tuple(folders)
        self._max_bytes = max_bytes
        self._size = size
        self._workers = ThreadPoolExecutor(_WORKERS, "photo")
        self._has_heif = _register_heif()

    async def prepare(self, source: PhotoSource) -> PreparedPhoto:
        """Return a picture as terminals take it.

        Raises:
            InvalidError: it cannot serve; at `photo` or `photo_file`, with what to do.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, self._prepare, source)

    def close(self) -> None:
        """End the worker threads."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, source: PhotoSource) -> PreparedPhoto:
        path = "photo" if isinstance(source, InlinePhoto) else "photo_file"
        try:
            picture = self._decode(source.text) if isinstance(source, InlinePhoto) else self._read(source)
            jpeg = self._put_right(picture)
        except ValueError as error:
            raise InvalidError.at(path, str(error)) from None
        return PreparedPhoto(hashlib.sha256(jpeg).hexdigest(), jpeg)

    def _decode(self, text: str) -> bytes:
        if text[:5].lower() == "data:":
            head, comma, text = text.partition(",")
            if not comma or not head.lower().endswith(";base64"):
                raise ValueError("is a data URI, but not one of base64 (data:image/jpeg;base64,…)")
        if len(text) * 3 // 4 > self._max_bytes * 1.1:
            raise ValueError(self._too_large())
        compact = "".join(text.split())
        try:
            picture = base64.b64decode(compact, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(
                "is not base64: give the picture's bytes in base64, or use photo_file for a path"
            ) from None
        if len(picture) > self._max_bytes:
            raise ValueError(self._too_large())
        return picture

    def _read(self, source: PhotoFile) -> bytes:
        if not self._folders:
            raise ValueError("no folder is set up for photos: list one under photos.folders in the configuration")
        named = Path(source.path)
        candidates = [named] if named.is_absolute() else [folder / named for folder in self._folders]
        for candidate in candidates:
            try:
                # Not waiting for the other end of a pipe, and not following a last link that is swapped in later.
                descriptor = os.open(os.path.realpath(candidate), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError:
                continue
            with os.fdopen(descriptor, "rb") as file:
                # What is open now, wherever links led, must lie inside.
                opened = Path(os.path.realpath(f"/proc/self/fd/{descriptor}"))
                if not any(opened.is_relative_to(os.path.realpath(folder)) for folder in self._folders):
                    break
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ValueError("is no ordinary file")
                picture = file.read(self._max_bytes + 1)
            if len(picture) > self._max_bytes:
                raise ValueError(self._too_large())
            return picture
        raise ValueError("there is no such file inside photos.folders")

    def _too_large(self) -> str:
        return f"has more than {self._max_bytes} bytes (photos.max_bytes): send a smaller picture"

    def _put_right(self, picture: bytes) -> bytes:
        size = conforming_size(picture)
        bounds = self._size or LARGEST
        if size is not None and size[0] <= bounds[0] and size[1] <= bounds[1]:
            # Byte for byte, but only what can be decoded to its end.
            return _load(picture, lambda image: _unchanged(image, picture))
        if not self._has_heif and picture[4:8] == b"ftyp" and picture[8:12] in _HEIF_BRANDS:
            raise ValueError("is a HEIC picture, which is not installed here: send JPEG, or install facebridge[heif]")
        return _load(picture, lambda image: _convert(image, bounds))


def _load(picture: bytes, work: Callable[[Image.Image], bytes]) -> bytes:
    """Open a picture and work on it; Pillow's many errors become one kind."""
    formats = (*_FORMATS, "HEIF") if "HEIF" in Image.OPEN else _FORMATS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(io.BytesIO(picture), formats=formats) as image:
                _check_size(image.size)
                return work(image)
    except UnidentifiedImageError:
        raise ValueError("is no picture that can be read: send JPEG, PNG or WebP") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError("has far too many pixels: send a smaller picture") from None
    except _UnfitError as error:
        raise ValueError(str(error)) from None
    except Exception:  # noqa: BLE001  a broken file can make Pillow's decoders raise anything
        raise ValueError("is broken or cut short: send the whole picture again") from None


class _UnfitError(Exception):
    """A picture that is right in itself and cannot serve."""


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > _MAXIMUM_PIXELS:
        raise _UnfitError("has far too many pixels: send a smaller picture")
    if min(size) < SMALLEST:
        raise _UnfitError(f"has less than {SMALLEST} pixels on a side: send a larger picture")


def _unchanged(image: Image.Image, picture: bytes) -> bytes:
    image.load()
    return picture


def _convert(image: Image.Image, bounds: tuple[int, int]) -> bytes:
    # Lets the JPEG decoder scale by itself: a fraction of the time and memory.
    image.draft("RGB", (bounds[0] * 2, bounds[1] * 2))
    turned = ImageOps.exif_transpose(image)
    flat = _in_rgb(turned)
    flat.thumbnail(bounds, Image.Resampling.LANCZOS)
    if min(flat.size) < SMALLEST:
        raise _UnfitError("is too narrow: send one of a face, not of a strip")
    jpeg = b""
    for quality in _QUALITIES:
        with io.BytesIO() as out:
            flat.save(out, "JPEG", quality=quality, optimize=True, progressive=False)
            jpeg = out.getvalue()
        if len(jpeg) <= _AIM:
            break
    return jpeg


def _in_rgb(image: Image.Image) -> Image.Image:
    """Return a picture in sRGB (or grey), on white where it lets through."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        # 16 bits a sample: the upper eight.
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    elif image.mode in ("P", "PA", "LA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer.getchannel("A"))
    if profile and image.mode in ("RGB", "CMYK"):
        image = _in_srgb(image, profile)
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    plain = Image.new(image.mode, image.size)
    plain.paste(image)
    return plain


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A profile that cannot be used: the colours as they are show the face as well.
        return image
    return converted if converted is not None else image


def _register_heif() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True
