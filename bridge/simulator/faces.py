"""Generated cartoon portraits, for demos and tests."""

import random
from io import BytesIO

from PIL import Image, ImageDraw

PORTRAIT_PIXELS = (480, 640)
"""Width and height; the size that the vendor's document recommends, upright."""

_SKINS = ("#f6d3b8", "#e8b88f", "#c98d5f", "#9c6238", "#6b4226")
_HAIRS = ("#1d1a18", "#4a2f1b", "#8a5a2b", "#c9a15a", "#9a9a9a", "#7a1f1f")
_SHIRTS = ("#2f6690", "#3a7d44", "#b23a48", "#6d597a", "#e09f3e", "#454955")
_WALLS = ("#dfe7ec", "#e9e4d8", "#d8e8dd", "#eadfe6")
_INK = "#2b2b2b"
_QUALITY = 85
"""JPEG quality; about 15 KB for a photo of `PORTRAIT_PIXELS`."""


def sample_photo(seed: int, size: tuple[int, int] = PORTRAIT_PIXELS) -> bytes:
    """Draw a portrait.

    Args:
        seed: the same seed gives the same bytes (with the same version of Pillow), another seed another face.
        size: width and height in pixels, at least 32 each.

    Returns:
        A baseline JPEG in RGB without metadata.
    """
    dice = random.Random(seed)  # noqa: S311 - a drawing, not a secret
    width, height = size
    image = Image.new("RGB", size, dice.choice(_WALLS))
    draw = ImageDraw.Draw(image)

    def oval(x: float, y: float, half_width: float, half_height: float, colour: str) -> None:
        """Draw around a centre; x and half_width are fractions of the width, y and half_height of the height."""
        draw.ellipse(
            (
                (x - half_width) * width,
                (y - half_height) * height,
                (x + half_width) * width,
                (y + half_height) * height,
            ),
            fill=colour,
        )

    skin, hair = dice.choice(_SKINS), dice.choice(_HAIRS)
    face_width, face_height = dice.uniform(0.23, 0.28), dice.uniform(0.23, 0.27)
    eye_distance, eye_size = dice.uniform(0.09, 0.12), dice.uniform(0.022, 0.03)

    oval(0.5, 1.05, 0.42, 0.3, dice.choice(_SHIRTS))
    if dice.random() < 0.5:
        oval(0.5, 0.5, face_width + 0.07, face_height + 0.05, hair)
    oval(0.5, 0.74, 0.1, 0.12, skin)
    oval(0.5, 0.38, face_width + 0.03, face_height * 0.85, hair)
    oval(0.5, 0.48, face_width, face_height, skin)
    for side in (-1, 1):
        oval(0.5 + side * face_width, 0.48, 0.03, 0.04, skin)
        oval(0.5 + side * eye_distance, 0.45, eye_size * 1.6, eye_size, "#ffffff")
        oval(0.5 + side * eye_distance, 0.45, eye_size * 0.7, eye_size * 0.8, _INK)
    if dice.random() < 0.4:
        for side in (-1, 1):
            _ring(draw, size, 0.5 + side * eye_distance, 0.45, 0.075)
    stroke = max(1, width // 80)
    nose = (0.48 * width, 0.5 * height, 0.52 * width, 0.54 * height)
    draw.arc(nose, start=20, end=160, fill=_INK, width=stroke)
    smile = (0.42 * width, 0.54 * height, 0.58 * width, dice.uniform(0.6, 0.64) * height)
    draw.arc(smile, start=20, end=160, fill=_INK, width=stroke)

    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _ring(draw: ImageDraw.ImageDraw, size: tuple[int, int], x: float, y: float, radius: float) -> None:
    """Draw one lens of a pair of glasses; the radius is a fraction of the width."""
    width, height = size
    draw.ellipse(
        (
            x * width - radius * width,
            y * height - radius * width,
            x * width + radius * width,
            y * height + radius * width,
        ),
        outline=_INK,
        width=max(1, width // 100),
    )
