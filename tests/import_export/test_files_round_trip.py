"""A written file is read back without a difference, and in limited memory."""

import base64
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.import_export.csv_cells import escape_cell, is_shortened, unescape_cell
from bridge.import_export.reading import open_person_file
from bridge.import_export.writing import write_person_file
from bridge.model.person import Person
from bridge.persons.photos.sources import InlinePhoto
from bridge.persons.schema import merge, parse_person
from tests.import_export.file_system import MAXIMUM, PHOTO, person
from tests.import_export.measure_memory import JPEG
from tests.support.person_strategies import ODD_IDS, ODD_TEXTS, persons


def jpeg_of(one: Person) -> bytes:
    return f"picture of {one.id}".encode()


@pytest.mark.parametrize(
    ("name", "folder"), [("p.csv", True), ("p.csv", False), ("p.json", True), ("p.json", False), ("p.zip", False)]
)
@settings(max_examples=40)
@given(everyone=st.lists(persons(), max_size=8, unique_by=lambda one: one.id))
@example(everyone=[person(one, name) for one, name in zip(ODD_IDS, ODD_TEXTS, strict=False)])
def test_a_written_file_reads_back_without_a_difference(name: str, folder: bool, everyone: Sequence[Person]) -> None:
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place, "photos") if folder else None
        with write_person_file(Path(place, name), photos) as writer:
            for one in everyone:
                writer.add(one, jpeg_of(one))
        with open_person_file(Path(place, name), photos) as opened:
            rows = list(opened.rows())
            assert opened.unclaimed_pictures == []
            assert [row.data["id"] for row in rows] == [one.id for one in everyone]
            for row, one in zip(rows, everyone, strict=True):
                assert row.faults == ()
                patch = parse_person(row.data, timezone=UTC)
                assert merge(patch, one, None) == one
                # The row contains every field, so it also describes a person that is not known yet.
                anew = merge(patch, None, PHOTO)
                assert anew.as_json() == one.as_json()
                if folder or name == "p.zip":
                    assert row.picture is not None
                    assert row.picture.read(MAXIMUM) == jpeg_of(one)
                elif name == "p.json":
                    assert isinstance(patch.photo_source, InlinePhoto)
                    assert base64.b64decode(patch.photo_source.text) == jpeg_of(one)


@given(st.one_of(st.text(), st.from_regex(r"'*[=+@\t\r-]?.*"), st.from_regex(r"'*[0-9][.,][0-9]+E\+[0-9]+")))
def test_an_escaped_cell_gives_the_same_text(text: str) -> None:
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    assert not is_shortened(cell)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("name", ["p.json", "p.csv", "p.zip", "photos-inside.csv"])
def test_memory_grows_with_a_row_and_not_with_the_file(tmp_path: Path, name: str) -> None:
    fewer, more = 200, 1000
    command = [sys.executable, "-m", "tests.import_export.measure_memory", name, str(tmp_path), str(fewer), str(more)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    peak_of_fewer, peak_of_more = map(int, done.stdout.split())
    assert peak_of_more - peak_of_fewer < (more - fewer) * len(JPEG) / 30
