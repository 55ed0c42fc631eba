"""Photos of persons: baseline JPEGs of about 97 KB, as many different ones as needed."""

from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import count
from random import Random

from PIL import Image

from bridge.simulator.faces import sample_photo

FACES = 10
WIDTH, HEIGHT = 480, 640
NOISE = 0.195
QUALITY = 85
"""With this share of noise and this JPEG quality, a photo has 97 KB."""

_DENSITY = slice(14, 18)
_HEADER_BYTES = 24
"""A multiple of three, so that the base64 of header and rest can be joined."""


def photos() -> Iterator[bytes]:
    """Yield photos that all differ.

    Drawing one takes 20 ms, which would slow down the load generator. So only a few are drawn, and each copy gets other
    numbers as its pixel density (JFIF 1.02, page 5). They affect neither the decoding nor the checks.
    """
    for number in count():
        face = _faces()[number % FACES]
        yield face[: _DENSITY.start] + (number + 1).to_bytes(4) + face[_DENSITY.stop :]


def base64_photos() -> Iterator[bytes]:
    """Yield the photos of `photos` in base64."""
    rests = [b64encode(face[_HEADER_BYTES:]) for face in _faces()]
    for number in count():
        face = _faces()[number % FACES]
        header = face[: _DENSITY.start] + (number + 1).to_bytes(4) + face[_DENSITY.stop : _HEADER_BYTES]
        yield b64encode(header) + rests[number % FACES]


@cache
def _faces() -> tuple[bytes, ...]:
    random = Random(1)
    faces = []
    for seed in range(FACES):
        noise = Image.frombytes("RGB", (WIDTH, HEIGHT), random.randbytes(WIDTH * HEIGHT * 3))
        face = Image.open(BytesIO(sample_photo(seed, (WIDTH, HEIGHT))))
        buffer = BytesIO()
        Image.blend(face, noise, NOISE).save(buffer, format="JPEG", quality=QUALITY)
        faces.append(buffer.getvalue())
    return tuple(faces)
