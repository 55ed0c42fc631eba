"""Files of persons appear complete or not at all, and only their owner may read them."""

import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from bridge.import_export import writing
from bridge.import_export.rows import PersonFileError
from bridge.import_export.writing import write_person_file
from tests.import_export.file_system import JPEG, person
from tests.support.file_size import file_size_limit

ADA = person("1001", "Ada, the first", card="0042", valid_until="2026-11-24T08:00:00.000+00:00", pass_count=3)
GRACE = person("1002")


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def everything_below(folder: Path) -> dict[str, bytes | None]:
    return {str(one.relative_to(folder)): one.read_bytes() if one.is_file() else None for one in folder.rglob("*")}


def write(file: Path, photos: Path | None = None) -> None:
    with write_person_file(file, photos) as writer:
        writer.add(ADA, JPEG)
        writer.add(GRACE, JPEG * 2)


@pytest.fixture
def kinds_of_file(tmp_path: Path) -> list[tuple[Path, Path | None]]:
    return [
        (tmp_path / "persons.csv", None),
        (tmp_path / "persons.json", None),
        (tmp_path / "persons.zip", None),
        (tmp_path / "with.csv", tmp_path / "csv-photos"),
        (tmp_path / "with.json", tmp_path / "json-photos"),
    ]


def test_the_columns_of_a_csv_keep_their_places(tmp_path: Path) -> None:
    write(tmp_path / "persons.csv")
    expected = (
        "id,name,card,id_number,valid_from,valid_until,pass_count,visitor,weekly,enabled",
        '1001,"Ada, the first",0042,,,2026-11-24T08:00:00.000+00:00,3,false,,true',
        "1002,Ada,,,,,,false,,true",
    )
    lines = (tmp_path / "persons.csv").read_text().splitlines()
    # Columns of fields that are added later follow these.
    for line, beginning in zip(lines, expected, strict=True):
        assert f"{line},".startswith(f"{beginning},")


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1", "'＝1"),
        ("'=1", "''=1"),
        ("1.5E+10", "'1.5E+10"),
        ("'t Hooft", "'t Hooft"),
        ("Ada", "Ada"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".zip"])
def test_a_cell_that_a_spreadsheet_would_run_is_escaped(tmp_path: Path, suffix: str, name: str, cell: str) -> None:
    file = tmp_path / f"persons{suffix}"
    with write_person_file(file, None) as writer:
        writer.add(person("-1", name), JPEG)
    if suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            text = archive.read("persons.csv").decode()
    else:
        text = file.read_text()
    assert text.splitlines()[1].startswith(f"'-1,{cell},")


def test_json_has_the_photos_unless_there_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "persons.json")
    write(tmp_path / "without.json", tmp_path / "photos")
    for name, photo in (("persons.json", {"photo": "/9ggbm90IGxvb2tlZCBhdCBoZXJlIP/Z"}), ("without.json", {})):
        first, second = json.loads((tmp_path / name).read_text())["persons"]
        assert first == ADA.as_json() | photo
        assert second["id"] == "1002"
    assert everything_below(tmp_path / "photos") == {"1001.jpg": JPEG, "1002.jpg": JPEG * 2}


@pytest.mark.parametrize("suffix", [".csv", ".json", ".zip"])
def test_a_file_without_persons_is_written(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"persons{suffix}"
    with write_person_file(file, None):
        pass
    if suffix == ".json":
        assert json.loads(file.read_text()) == {"persons": []}
    assert file.stat().st_size


def test_a_zip_holds_a_csv_and_pictures(tmp_path: Path) -> None:
    write(tmp_path / "persons.csv")
    write(tmp_path / "persons.zip")
    with zipfile.ZipFile(tmp_path / "persons.zip") as archive:
        assert archive.testzip() is None
        assert {one.filename: (one.compress_type, one.external_attr >> 16) for one in archive.infolist()} == {
            "photos/1001.jpg": (zipfile.ZIP_STORED, 0o600),
            "photos/1002.jpg": (zipfile.ZIP_STORED, 0o600),
            "persons.csv": (zipfile.ZIP_DEFLATED, 0o600),
        }
        assert archive.read("photos/1002.jpg") == JPEG * 2
        assert archive.read("persons.csv") == (tmp_path / "persons.csv").read_bytes()


def test_only_the_owner_may_read(tmp_path: Path, kinds_of_file: list[tuple[Path, Path | None]]) -> None:
    before = os.umask(0)
    try:
        for file, photos in kinds_of_file:
            # An existing file that all may read becomes private.
            file.touch(0o666)
            write(file, photos)
            assert mode_of(file) == 0o600
            if photos is not None:
                assert mode_of(photos) == 0o700
                assert [mode_of(picture) for picture in photos.iterdir()] == [0o600, 0o600]
    finally:
        os.umask(before)


def test_a_file_that_is_there_is_replaced_only_at_the_end(
    tmp_path: Path, kinds_of_file: list[tuple[Path, Path | None]]
) -> None:
    for file, photos in kinds_of_file:
        file.write_text("old")
        with write_person_file(file, photos) as writer:
            writer.add(ADA, JPEG)
            assert file.read_text() == "old"
            if photos is not None:
                assert not (photos / "1001.jpg").exists()
        assert file.read_bytes() != b"old"
    assert not [name for name in everything_below(tmp_path) if "facebridge" in name]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_and_changes_nothing(
    tmp_path: Path, kinds_of_file: list[tuple[Path, Path | None]], failure: type[BaseException]
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "1001.jpg").write_bytes(b"old")
    for file, photos in [*kinds_of_file, (tmp_path / "into.csv", kept)]:
        file.write_text("old")
        before = everything_below(tmp_path)
        with (  # noqa: PT012  the failure comes amid the writing
            pytest.raises(failure),
            write_person_file(file, photos) as writer,
        ):
            writer.add(ADA, JPEG)
            raise failure
        assert everything_below(tmp_path) == before


@pytest.mark.parametrize("missing", [1, 50, 10_000, 10**9], ids=lambda missing: f"{missing} bytes")
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, kinds_of_file: list[tuple[Path, Path | None]], missing: int
) -> None:
    def write_many(file: Path, photos: Path | None) -> None:
        with write_person_file(file, photos) as writer:
            for number in range(300):
                writer.add(person(str(number)), b"x" * 20)

    for file, photos in kinds_of_file:
        write_many(file, photos)
        size = file.stat().st_size
        file.unlink()
        shutil.rmtree(photos or tmp_path / "none", ignore_errors=True)
        with (
            pytest.raises(PersonFileError, match=r"cannot be written: File too large"),
            file_size_limit(max(size - missing, 0)),
        ):
            write_many(file, photos)
        assert everything_below(tmp_path) == {}


def test_a_full_disk_for_pictures_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PersonFileError, match=r"folder of pictures .* File too large"), file_size_limit(len(JPEG)):
        write(tmp_path / "persons.csv", tmp_path / "photos")
    assert everything_below(tmp_path) == {}


def test_a_table_appears_only_with_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_replace = Path.replace

    def fail(draft: Path, target: Path) -> Path:
        if target.name == "1002.jpg":
            raise OSError(5, "Input/output error")
        return really_replace(draft, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PersonFileError, match="Input/output error"):
        write(tmp_path / "persons.csv", tmp_path / "photos")
    assert not (tmp_path / "persons.csv").exists()


def test_a_folder_with_other_pictures_keeps_them(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir(0o755)
    (photos / "7.png").write_bytes(b"seven")
    (photos / "1001.jpg").write_bytes(b"old")
    (photos / "notes.txt").write_bytes(b"notes")
    write(tmp_path / "persons.csv", photos)
    assert everything_below(photos) == {
        "7.png": b"seven",
        "notes.txt": b"notes",
        "1001.jpg": JPEG,
        "1002.jpg": JPEG * 2,
    }
    assert mode_of(photos) == 0o755


@pytest.mark.parametrize("other", ["1002.png", "1002.JPG", "1002.jpeg"])
def test_a_second_picture_of_the_same_person_is_refused(tmp_path: Path, other: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / other).write_bytes(b"grace")
    with pytest.raises(PersonFileError, match=f"another picture of this person, {other}"):
        write(tmp_path / "persons.csv", photos)
    assert everything_below(tmp_path) == {"photos": None, f"photos/{other}": b"grace"}


def test_the_table_may_lie_among_its_pictures(tmp_path: Path) -> None:
    write(tmp_path / "all" / "persons.csv", tmp_path / "all")
    assert set(everything_below(tmp_path / "all")) == {"persons.csv", "1001.jpg", "1002.jpg"}
    shutil.rmtree(tmp_path / "all")
    with pytest.raises(ValueError, match="x"), write_person_file(tmp_path / "all" / "persons.csv", tmp_path / "all"):
        raise ValueError("x")
    assert everything_below(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "photos", "hint"),
    [
        ("persons.xlsx", None, r"must be a \.csv, a \.json or a \.zip"),
        ("persons", None, r"must be a \.csv, a \.json or a \.zip"),
        ("persons.zip", "photos", "leave --photos out"),
        ("missing/persons.csv", None, "^cannot be written: No such file"),
        ("folder.csv", None, "is a folder"),
        ("persons.csv", "missing/photos", "folder of pictures .*missing/photos cannot be written: No such file"),
        ("persons.csv", "file.txt", "folder of pictures .*file.txt cannot be written: File exists"),
        ("file.txt/persons.csv", None, "cannot be written: Not a directory"),
    ],
)
def test_a_wrong_path_is_an_error_before_anything_is_written(
    tmp_path: Path, name: str, photos: str | None, hint: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.txt").write_text("text")
    before = everything_below(tmp_path)
    with (
        pytest.raises(PersonFileError, match=hint),
        write_person_file(tmp_path / name, None if photos is None else tmp_path / photos),
    ):
        raise AssertionError("the file was opened for writing")
    assert everything_below(tmp_path) == before


def test_an_archive_holds_only_as_many_persons_as_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAXIMUM_MEMBERS", 3)
    write(tmp_path / "persons.zip")
    with (  # noqa: PT012  only the third is too many
        pytest.raises(PersonFileError, match="an archive holds at most 2 persons"),
        write_person_file(tmp_path / "more.zip", None) as writer,
    ):
        for number in range(3):
            writer.add(person(str(number)), JPEG)
    assert not (tmp_path / "more.zip").exists()
