"""What was written is read back without a difference, and in bounded memory."""

import base64
import tempfile
import tracemalloc
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.import_export.reading import open_person_file
from bridge.import_export.writing import write_person_file
from bridge.model.person import ALWAYS, WEEKDAYS, Person, Weekly
from bridge.persons.field_kinds import MAXIMUM_NAME_LENGTH, MAXIMUM_NUMBER_LENGTH
from bridge.persons.photos.sources import InlinePhoto
from bridge.persons.schema import merge, parse_person
from bridge.persons.timestamps import LATEST_SECONDS
from tests.import_export.file_system import MAXIMUM, PHOTO, person

ODD_IDS = [".", "..", "-", "_", "@", "a@b.c", ".hidden", "0042", "1e5", "true", "id", "x.jpg", "A", "a", "x" * 64]
ODD_NAMES = [
    "=1+1",
    '"',
    '""',
    ',"',
    "';",
    "a;b\tc".replace("\t", " "),
    "@x",
    "-",
    "null",
    "true",
    "{}",
    "علی\u200cرضا",
    "王小明",
    "\u200dx",
    "1",
    "🙂",
]


def printable(maximum: int) -> st.SearchStrategy[str]:
    """Text as `parse_person` leaves it."""
    characters = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"]) | st.sampled_from(
        ",;\"'= \u200c"
    )
    return st.text(characters, min_size=1, max_size=maximum).filter(lambda text: text == text.strip())


numbers = st.none() | printable(MAXIMUM_NUMBER_LENGTH).filter(lambda text: text != "00000000")
ids = st.sampled_from(ODD_IDS) | st.from_regex(r"[A-Za-z0-9_.@-]{1,64}", fullmatch=True)
moments = st.integers(0, int(LATEST_SECONDS * 1000)).map(lambda milliseconds: milliseconds / 1000)
days = st.sampled_from(["", "00:00-23:59", "09:00-12:35;13:25-16:25", "00:00-00:01;23:58-23:59"])


@st.composite
def persons(draw: st.DrawFn) -> Person:
    start, end = sorted(draw(st.lists(moments, min_size=2, max_size=2, unique=True)))
    weekly = draw(
        st.none()
        | st.just(ALWAYS)
        | st.lists(days, min_size=7, max_size=7).map(
            lambda ranges: Weekly.from_days(dict(zip(WEEKDAYS, ranges, strict=True)))
        )
    )
    return Person(
        id=draw(ids),
        name=draw(st.sampled_from(ODD_NAMES) | printable(MAXIMUM_NAME_LENGTH)),
        card=draw(numbers),
        id_number=draw(numbers),
        photo=PHOTO,
        valid_from=draw(st.sampled_from([None, start])),
        valid_until=draw(st.sampled_from([None, end])),
        pass_count=draw(st.none() | st.integers(0, 9999)),
        visitor=draw(st.booleans()),
        weekly=weekly,
        weekly_taken_back=weekly is None and draw(st.booleans()),
        enabled=draw(st.booleans()),
    )


def jpeg_of(one: Person) -> bytes:
    return f"picture of {one.id}".encode()


@pytest.mark.parametrize(
    ("name", "folder"), [("p.csv", True), ("p.csv", False), ("p.json", True), ("p.json", False), ("p.zip", False)]
)
@settings(max_examples=40)
@given(everyone=st.lists(persons(), max_size=8, unique_by=lambda one: one.id))
@example(everyone=[person(one, name) for one, name in zip(ODD_IDS, ODD_NAMES, strict=False)])
def test_what_was_written_reads_back_without_a_difference(name: str, folder: bool, everyone: Sequence[Person]) -> None:
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
                # It says all there is to say, also to somebody who does not know the person yet.
                anew = merge(patch, None, PHOTO)
                assert anew.as_json() == one.as_json()
                if folder or name == "p.zip":
                    assert row.picture is not None
                    assert row.picture.read(MAXIMUM) == jpeg_of(one)
                elif name == "p.json":
                    assert isinstance(patch.photo_source, InlinePhoto)
                    assert base64.b64decode(patch.photo_source.text) == jpeg_of(one)


@pytest.mark.parametrize("name", ["p.json", "p.csv", "p.zip"])
def test_memory_is_that_of_a_row_and_not_of_the_file(tmp_path: Path, name: str) -> None:
    count, jpeg = 2000, bytes(range(256)) * 400
    photos = tmp_path / "photos" if name == "p.csv" else None

    def write_and_read(persons: int) -> None:
        with write_person_file(tmp_path / name, photos) as writer:
            for number in range(persons):
                writer.add(person(str(number)), jpeg)
        with open_person_file(tmp_path / name, photos) as opened:
            for number, row in enumerate(opened.rows()):
                assert row.data["id"] == str(number)
                if row.picture is None:
                    assert len(str(row.data["photo"])) > len(jpeg)
                else:
                    assert row.picture.read(MAXIMUM) == jpeg
            assert number == persons - 1

    # What is imported on first use stays.
    write_and_read(1)
    tracemalloc.start()
    try:
        write_and_read(count)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count * len(jpeg) / 30
