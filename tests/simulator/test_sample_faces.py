"""Generated portraits: valid for a terminal, and different for each seed."""

from io import BytesIO

import pytest
from PIL import Image

from bridge.simulator.faces import sample_photo


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (32, 32), (1080, 1080)])
def test_is_a_plain_jpeg_of_the_requested_size(size: tuple[int, int]) -> None:
    with Image.open(BytesIO(sample_photo(1, size))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert not image.getexif()


def test_each_seed_draws_its_own_face() -> None:
    faces = {sample_photo(seed) for seed in range(20)}
    assert len(faces) == 20
    assert sample_photo(3) == sample_photo(3)
    assert all(len(face) < 60_000 for face in faces)
