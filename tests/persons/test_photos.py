"""Every kind of picture becomes a photo that every terminal can read, or a fault."""

import asyncio
import base64
import hashlib
import random
import struct
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from bridge.model.faults import InvalidError
from bridge.persons.photos.conversion import (
    MAXIMUM_PIXELS,
    MAXIMUM_SCANS,
    TARGET_BYTES,
    convert_photo,
    ignore_decoder_warnings,
)
from bridge.persons.photos.jpeg_markers import MAXIMUM_SEGMENTS, plain_size
from bridge.persons.photos.sources import InlinePhoto, PhotoFile
from bridge.persons.preparation import PhotoPreparer
from bridge.protocol.encoding import escape_photo, unescape_photo
from bridge.simulator.faces import sample_photo

LARGEST = (1080, 1080)
RED, GREEN, BLUE, GREY = (200, 30, 40), (30, 160, 60), (40, 50, 200), (128, 128, 128)


def corners(size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Draw a picture whose corners show its orientation: red, green / blue, grey."""
    image = Image.new("RGB", size, GREY)
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.rectangle((0, 0, width // 2, height // 2), fill=RED)
    draw.rectangle((width // 2, 0, width, height // 2), fill=GREEN)
    draw.rectangle((0, height // 2, width // 2, height), fill=BLUE)
    return image


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    buffer = BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


def opened(jpeg: bytes) -> Image.Image:
    image = Image.open(BytesIO(jpeg))
    image.load()
    return image


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(7).randbytes(size[0] * size[1] * 3))


def is_about(found: Any, expected: tuple[int, int, int], tolerance: int = 12) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(found, expected, strict=True))


def assert_upright(jpeg: bytes) -> None:
    image = opened(jpeg).convert("RGB")
    width, height = image.size
    for (x, y), colour in {(1, 1): RED, (3, 1): GREEN, (1, 3): BLUE, (3, 3): GREY}.items():
        assert is_about(image.getpixel((width * x // 4, height * y // 4)), colour), (x, y)


@pytest.fixture(scope="module")
def preparer() -> Iterator[PhotoPreparer]:
    preparer = PhotoPreparer()
    yield preparer
    preparer.close()


def inline(data: bytes) -> InlinePhoto:
    return InlinePhoto(base64.b64encode(data).decode())


async def fault_of(preparer: PhotoPreparer, data: bytes) -> str:
    with pytest.raises(InvalidError) as caught:
        await preparer.prepare(inline(data))
    (fault,) = caught.value.faults
    assert fault.path == "photo"
    return fault.message


# -- conforming photos


@pytest.mark.parametrize(
    "data",
    [
        sample_photo(1),
        sample_photo(2, (1080, 1080)),
        sample_photo(3, (32, 32)),
        saved(corners().convert("L"), "JPEG"),
        saved(corners(), "JPEG", quality=100, subsampling="4:4:4"),
    ],
)
async def test_a_conforming_photo_is_passed_on_unchanged(preparer: PhotoPreparer, data: bytes) -> None:
    photo = await preparer.prepare(inline(data))
    assert photo.jpeg == data
    assert photo.sha256 == hashlib.sha256(data).hexdigest()


async def test_a_photo_above_the_configured_size_is_scaled() -> None:
    preparer = PhotoPreparer(size=(640, 480))
    fits, does_not = sample_photo(1, (360, 480)), sample_photo(1, (480, 640))
    assert (await preparer.prepare(inline(fits))).jpeg == fits
    assert opened((await preparer.prepare(inline(does_not))).jpeg).size == (360, 480)
    preparer.close()


async def test_a_damaged_photo_with_a_valid_structure_is_a_fault(preparer: PhotoPreparer) -> None:
    whole = sample_photo(1)
    scan = whole.index(b"\xff\xda")
    headless = whole[:20] + whole[scan:]
    without_tables = whole[: whole.index(b"\xff\xdb")] + whole[whole.index(b"\xff\xc0") :]
    assert plain_size(without_tables) is not None
    assert "damaged" in await fault_of(preparer, without_tables)
    assert "damaged" in await fault_of(preparer, whole[: len(whole) // 2])
    assert "damaged" in await fault_of(preparer, headless)


async def test_a_photo_of_too_many_bytes_is_converted(preparer: PhotoPreparer) -> None:
    data = saved(noise(LARGEST), "JPEG", quality=100, subsampling="4:4:4")
    assert len(data) > 2_000_000
    assert len((await preparer.prepare(inline(data))).jpeg) < 1_048_576


# -- converted pictures

KINDS: dict[str, Callable[[], bytes]] = {
    "JPEG, progressive": lambda: saved(corners(), "JPEG", quality=95, progressive=True),
    "JPEG, CMYK": lambda: saved(corners().convert("CMYK"), "JPEG", quality=95),
    "JPEG, colours kept as RGB": lambda: saved(corners(), "JPEG", quality=95, keep_rgb=True),
    "JPEG, comment": lambda: saved(corners(), "JPEG", quality=95, comment="a secret"),
    "JPEG, EXIF": lambda: saved(corners(), "JPEG", quality=95, exif=exif(1)),
    "JPEG, XMP": lambda: saved(corners(), "JPEG", quality=95, xmp=b"<a secret/>"),
    "JPEG, of several pictures": lambda: saved(corners(), "MPO", quality=95, save_all=True, append_images=[corners()]),
    "JPEG, a film behind": lambda: saved(corners(), "JPEG", quality=95) + b"\0\0\0\x18ftypmp42 a secret",
    "JPEG, rubbish between segments": lambda: with_rubbish(saved(corners(), "JPEG", quality=95)),
    "PNG": lambda: saved(corners(), "PNG"),
    "PNG, text": lambda: saved(corners(), "PNG", exif=exif(1)),
    "PNG, palette": lambda: saved(corners().quantize(8), "PNG"),
    "PNG, palette with a transparent colour": lambda: saved(corners().quantize(8), "PNG", transparency=255),
    "PNG, RGBA": lambda: saved(corners().convert("RGBA"), "PNG"),
    "PNG, interlaced frames": lambda: saved(
        corners(), "PNG", save_all=True, append_images=[corners().rotate(180), corners().rotate(90)]
    ),
    "WebP": lambda: saved(corners(), "WEBP", quality=95),
    "WebP, lossless RGBA": lambda: saved(corners().convert("RGBA"), "WEBP", lossless=True),
    "WebP, animated": lambda: saved(corners(), "WEBP", lossless=True, save_all=True, append_images=[noise((120, 90))]),
    "HEIC": lambda: heic(corners()),
    "HEIC, RGBA": lambda: heic(corners().convert("RGBA")),
}


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010E] = "a secret"
    return data


def with_rubbish(jpeg: bytes) -> bytes:
    return jpeg[:20] + b"a secret" + jpeg[20:]


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
async def test_every_kind_becomes_a_plain_jpeg(preparer: PhotoPreparer, make: Callable[[], bytes]) -> None:
    photo = await preparer.prepare(inline(make()))
    assert plain_size(photo.jpeg) == (120, 90)
    assert b"secret" not in photo.jpeg
    assert_upright(photo.jpeg)
    assert (await preparer.prepare(inline(photo.jpeg))) == photo


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIC"])
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_picture_is_turned_as_its_exif_says(preparer: PhotoPreparer, form: str, orientation: int) -> None:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    taken = corners() if turn is None else corners().transpose(turn)
    if form == "HEIC":
        data = heic(taken, exif=exif(orientation).tobytes())
    else:
        data = saved(taken, form, quality=95, exif=exif(orientation))
    photo = await preparer.prepare(inline(data))
    assert opened(photo.jpeg).size == (120, 90)
    assert_upright(photo.jpeg)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
async def test_an_unknown_orientation_is_ignored(preparer: PhotoPreparer, orientation: int) -> None:
    data = saved(corners(), "JPEG", quality=95, exif=exif(orientation))
    assert_upright((await preparer.prepare(inline(data))).jpeg)


async def test_damaged_exif_does_not_change_the_picture(preparer: PhotoPreparer) -> None:
    data = bytearray(saved(corners(), "JPEG", quality=95, exif=exif(6)))
    start = data.index(b"Exif\0\0")
    data[start + 14 : start + 40] = b"\xff" * 26
    assert_upright((await preparer.prepare(inline(bytes(data)))).jpeg)


@pytest.mark.parametrize(
    ("taken", "orientation", "box", "size"),
    [
        ((2000, 1000), 1, None, (1080, 540)),
        ((1000, 2000), 1, None, (540, 1080)),
        ((4000, 3000), 1, None, (1080, 810)),
        ((4000, 3000), 6, None, (810, 1080)),
        ((1081, 1080), 1, None, (1080, 1079)),
        ((1080, 32), 1, None, (1080, 32)),
        ((40, 50), 1, None, (40, 50)),
        ((4000, 3000), 1, (640, 480), (640, 480)),
        ((4000, 3000), 6, (640, 480), (360, 480)),
        ((300, 200), 1, (640, 480), (300, 200)),
        ((4000, 3000), 1, (5000, 5000), (1080, 810)),
    ],
)
async def test_a_picture_is_scaled_down_to_fit_and_never_up(
    taken: tuple[int, int], orientation: int, box: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    preparer = PhotoPreparer(size=box)
    image = Image.new("RGB", taken, BLUE)
    photo = await preparer.prepare(inline(saved(image, "JPEG", exif=exif(orientation))))
    assert opened(photo.jpeg).size == size
    assert is_about(opened(photo.jpeg).getpixel((size[0] // 2, size[1] // 2)), BLUE)
    preparer.close()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "HEIC"])
async def test_transparent_parts_become_white(preparer: PhotoPreparer, form: str) -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 30, 40, 255), (0, 0, 32, 64))
    data = heic(image) if form == "HEIC" else saved(image, form, lossless=True)
    photo = opened((await preparer.prepare(inline(data))).jpeg)
    assert is_about(photo.getpixel((56, 32)), (255, 255, 255))
    assert is_about(photo.getpixel((8, 32)), RED)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image.new("1", (64, 64), 1), 255),
        (lambda: Image.new("L", (64, 64), 100), 100),
        (lambda: Image.new("I;16", (64, 64), 100 * 257), 100),
        (lambda: Image.new("LA", (64, 64), (100, 255)), 100),
        (lambda: Image.new("LA", (64, 64), (100, 0)), 255),
    ],
    ids=["1", "L", "I;16", "LA", "LA transparent"],
)
async def test_grey_stays_as_bright_as_it_was(
    preparer: PhotoPreparer, make: Callable[[], Image.Image], expected: int
) -> None:
    photo = opened((await preparer.prepare(inline(saved(make(), "PNG")))).jpeg)
    assert is_about(photo.convert("RGB").getpixel((32, 32)), (expected, expected, expected), 2)


async def test_a_transparent_colour_of_a_png_becomes_white(preparer: PhotoPreparer) -> None:
    data = saved(Image.new("RGB", (64, 64), BLUE), "PNG", transparency=BLUE)
    photo = opened((await preparer.prepare(inline(data))).jpeg)
    assert is_about(photo.getpixel((32, 32)), (255, 255, 255))


def linear_profile() -> bytes:
    """Return a profile with the colours of sRGB and linear values, so that the test notices if it is ignored."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(struct.unpack_from(">I", profile, 128)[0]):
        signature, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if signature in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 12] = b"curv" + bytes(4) + struct.pack(">I", 0)
    return bytes(profile)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIC"])
async def test_colours_are_converted_to_srgb(preparer: PhotoPreparer, form: str) -> None:
    image = Image.new("RGB", (64, 64), (55, 55, 55))
    image.info["icc_profile"] = profile = linear_profile()
    data = heic(image) if form == "HEIC" else saved(image, form, icc_profile=profile)
    photo = opened((await preparer.prepare(inline(data))).jpeg)
    # 55/255 of the light is 128 in sRGB.
    assert is_about(photo.getpixel((32, 32)), GREY, 3)
    assert "icc_profile" not in photo.info


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("profile", [b"rubbish" * 40, linear_profile()[:200], linear_profile()])
async def test_an_unsuitable_profile_does_not_change_the_picture(
    preparer: PhotoPreparer, mode: str, profile: bytes
) -> None:
    data = saved(corners().convert(mode), "JPEG", icc_profile=profile)
    assert plain_size((await preparer.prepare(inline(data))).jpeg) == (120, 90)


async def test_a_large_photo_gets_a_lower_quality(preparer: PhotoPreparer) -> None:
    smooth = saved(corners((1080, 1080)), "PNG")
    rough = saved(noise((500, 500)), "PNG")
    roughest = saved(noise((1080, 1080)), "PNG")
    assert len((await preparer.prepare(inline(smooth))).jpeg) < TARGET_BYTES // 4
    assert TARGET_BYTES // 2 < len((await preparer.prepare(inline(rough))).jpeg) <= TARGET_BYTES
    # Quality has a lower limit; even the worst picture stays far below the 2 MB of a broker.
    assert TARGET_BYTES < len((await preparer.prepare(inline(roughest))).jpeg) < 1_000_000


async def test_the_same_picture_gives_the_same_photo(preparer: PhotoPreparer) -> None:
    data = saved(noise((300, 200)), "PNG")
    first, second = await asyncio.gather(*(preparer.prepare(inline(data)) for _ in range(2)))
    assert first == second


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    size = (draw(st.integers(32, 1400)), draw(st.integers(32, 1400)))
    form = draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    modes = {
        "JPEG": ["L", "RGB", "CMYK"],
        "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
        "WEBP": ["RGB", "RGBA"],
    }
    mode = draw(st.sampled_from(modes[form]))
    image = corners(size) if draw(st.booleans()) else noise((40, 40)).resize(size)
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    options: dict[str, Any] = {"exif": exif(draw(st.integers(0, 9)))} if draw(st.booleans()) else {}
    return saved(image, form, **options)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pictures(), st.sampled_from([LARGEST, (640, 480), (480, 640)]))
def test_a_photo_conforms_so_that_preparing_it_again_changes_nothing(data: bytes, box: tuple[int, int]) -> None:
    try:
        jpeg = convert_photo(data, box)
    except InvalidError as error:
        assert "too narrow" in str(error)  # noqa: PT017  both ends are right, each in its way
        return
    size = plain_size(jpeg)
    assert size is not None
    assert size[0] <= box[0]
    assert size[1] <= box[1]
    assert min(size) >= 32
    assert convert_photo(jpeg, box) == jpeg


# -- refused pictures


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"\0", "is not a picture; give a JPEG"),
        (b"hello, world", "is not a picture"),
        (saved(corners(), "GIF"), "is a GIF; give a JPEG"),
        (saved(corners(), "BMP"), "is a BMP"),
        (saved(corners(), "TIFF"), "is a TIFF"),
        (b"%PDF-1.7", "is a PDF"),
        (b"<svg/>", "SVG"),
        (b"\xff\xd8\xff", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"RIFF\0\0\0\0WEBP", "damaged"),
        (b"\0\0\0\x18ftypheic", "damaged"),
        (saved(corners((31, 400)), "JPEG"), "31x400 pixels; each side needs at least 32"),
        (saved(corners((400, 31)), "PNG"), "400x31 pixels"),
        (saved(corners((1, 1)), "PNG"), "1x1 pixels"),
        (saved(corners((8000, 100)), "PNG"), "too narrow: scaled to fit 1080x1080"),
    ],
)
async def test_a_picture_that_cannot_be_a_photo_is_a_fault(preparer: PhotoPreparer, data: bytes, hint: str) -> None:
    assert hint in await fault_of(preparer, data)


WHOLE = {
    "JPEG": saved(noise((120, 90)), "JPEG", exif=exif(1)),
    "JPEG, progressive": saved(noise((120, 90)), "JPEG", progressive=True),
    "PNG": saved(noise((120, 90)), "PNG"),
    "WEBP": saved(noise((120, 90)), "WEBP"),
    "HEIC": heic(noise((120, 90))),
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
async def test_a_picture_that_is_cut_off_is_a_fault(preparer: PhotoPreparer, data: bytes, share: float) -> None:
    assert "damaged or cut off" in await fault_of(preparer, data[: int(len(data) * share)])


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=10),
)
def test_a_damaged_picture_gives_a_photo_or_a_fault(kind: str, changes: list[tuple[float, int]]) -> None:
    ignore_decoder_warnings()
    data = bytearray(WHOLE[kind])
    for share, value in changes:
        data[int(share * len(data))] = value
    try:
        jpeg = convert_photo(bytes(data), LARGEST)
    except InvalidError as error:
        assert error.faults  # noqa: PT017  both ends are right, each in its way
        return
    assert convert_photo(jpeg, LARGEST) == jpeg


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG file of a huge picture."""

    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def jpeg_bomb(width: int, height: int) -> bytes:
    data = bytearray(saved(corners(), "JPEG", progressive=True))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_bomb(width: int, height: int) -> bytes:
    data = bytearray(saved(corners().convert("RGBA"), "WEBP", lossless=True, exif=exif(1)))
    position = data.index(b"VP8X") + 12
    data[position : position + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


@pytest.mark.parametrize("make", [png_bomb, jpeg_bomb, webp_bomb])
@pytest.mark.parametrize("size", [(8192, 6145), (16383, 16383)])
async def test_a_decompression_bomb_is_a_fault_and_not_decoded(
    preparer: PhotoPreparer, make: Callable[[int, int], bytes], size: tuple[int, int]
) -> None:
    assert size[0] * size[1] > MAXIMUM_PIXELS
    message = await fault_of(preparer, make(*size))
    assert "scale it down" in message or "damaged" in message


async def test_a_jpeg_of_endless_scans_is_a_fault_and_not_decoded(preparer: PhotoPreparer) -> None:
    data = saved(corners(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * MAXIMUM_SCANS + data[-2:]
    assert f"more than {MAXIMUM_SCANS} scans" in await fault_of(preparer, bomb)


def with_scans(jpeg: bytes, count: int) -> bytes:
    """Repeat the last scan of a progressive JPEG."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * count + jpeg[-2:]


@pytest.mark.parametrize("comment", [b"\xff\xfe\0\2", b"\xff\xfe\0\3x"])
async def test_a_jpeg_of_endless_segments_is_a_fault_and_not_decoded(preparer: PhotoPreparer, comment: bytes) -> None:
    scans = with_scans(saved(Image.new("RGB", LARGEST, RED), "JPEG", progressive=True), 1500)
    bomb = scans[:2] + comment * MAXIMUM_SEGMENTS + scans[2:]
    assert len(bomb) < 100_000
    assert f"more than {MAXIMUM_SEGMENTS} segments" in await fault_of(preparer, bomb)


@pytest.mark.parametrize("length", [b"\0\0", b"\0\1"])
async def test_the_scans_behind_a_segment_of_an_impossible_length_are_counted(
    preparer: PhotoPreparer, length: bytes
) -> None:
    scans = with_scans(saved(corners(), "JPEG", progressive=True), MAXIMUM_SCANS)
    bomb = scans[:2] + b"\xff\xfe" + length + scans[2:]
    assert f"more than {MAXIMUM_SCANS} scans" in await fault_of(preparer, bomb)


async def test_a_large_picture_may_have_fewer_scans_than_a_small_one(preparer: PhotoPreparer) -> None:
    small = with_scans(saved(corners(), "JPEG", progressive=True), 50)
    assert plain_size((await preparer.prepare(inline(small))).jpeg) == (120, 90)
    large = with_scans(saved(corners((8000, 6000)), "JPEG", progressive=True), 50)
    assert "59 scans, too many for 8000x6000 pixels" in await fault_of(preparer, large)


def test_a_heic_is_a_fault_if_it_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InvalidError, match=r"install facebridge\[heif\]"):
        convert_photo(heic(corners()), LARGEST)


async def test_a_too_large_picture_is_a_fault() -> None:
    preparer = PhotoPreparer(max_bytes=1000)
    assert "photos.max_bytes" in await fault_of(preparer, sample_photo(1))
    preparer.close()


# -- sources and use


async def test_a_file_is_prepared_and_its_faults_are_the_files(tmp_path: Path) -> None:
    (tmp_path / "ada.png").write_bytes(saved(corners(), "PNG"))
    (tmp_path / "notes.txt").write_bytes(b"notes")
    preparer = PhotoPreparer(folders=[tmp_path])
    assert_upright((await preparer.prepare(PhotoFile("ada.png"))).jpeg)
    for path, hint in (("notes.txt", "is not a picture"), ("missing.png", "no such file"), ("/etc/passwd", "inside")):
        with pytest.raises(InvalidError, match=hint) as caught:
            await preparer.prepare(PhotoFile(path))
        assert [fault.path for fault in caught.value.faults] == ["photo_file"]
    preparer.close()


async def test_other_tasks_run_while_pictures_are_prepared(preparer: PhotoPreparer) -> None:
    data = saved(noise((1500, 1500)), "PNG", compress_level=1)
    working = [asyncio.ensure_future(preparer.prepare(inline(data))) for _ in range(4)]  # noqa: TID251  awaited below
    turns = 0
    while not all(task.done() for task in working):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    assert len({photo.sha256 for photo in await asyncio.gather(*working)}) == 1


async def test_repr_hides_the_picture(preparer: PhotoPreparer) -> None:
    photo = await preparer.prepare(inline(sample_photo(1)))
    assert repr(photo) == f"PreparedPhoto(sha256='{photo.sha256}')"
    assert "AAAA" not in repr(InlinePhoto("AAAA"))
    assert "ada" not in repr(PhotoFile("ada.jpg"))


def test_a_size_below_the_smallest_photo_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        PhotoPreparer(size=(31, 480))


async def test_no_conversion_starts_after_closing() -> None:
    preparer = PhotoPreparer()
    preparer.close()
    with pytest.raises(RuntimeError):
        await preparer.prepare(inline(sample_photo(1)))


def test_a_photo_reaches_the_terminal_unchanged() -> None:
    jpeg = sample_photo(1)
    assert unescape_photo(escape_photo(b64encode(jpeg).decode())) == jpeg
