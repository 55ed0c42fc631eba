"""Pictures beside a table: in a folder, or in a ZIP with it."""

import io
import os
import random
import struct
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.import_export import archive as archives
from bridge.import_export import pictures
from bridge.import_export.reading import open_person_file
from bridge.import_export.rows import PersonFileError
from bridge.model.faults import InvalidError
from tests.import_export.file_system import MAXIMUM, bytes_of, read, read_with_unclaimed_pictures, write_zip

CSV = b"id,name\np1,Ada\nP1,Grace\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "persons.csv"
    file.write_bytes(CSV)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def error_of(file: Path, photos: Path | None = None) -> str:
    with pytest.raises(PersonFileError) as caught:
        read(file, photos)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "WebP", "heic", "HEIF"])
def test_a_picture_of_any_suffix_is_found_by_id(table: Path, folder: Path, suffix: str) -> None:
    (folder / f"p1.{suffix}").write_bytes(b"ada")
    ada, grace = read(table, folder)
    assert bytes_of(ada.picture) == b"ada"
    assert ada.picture is not None
    assert ada.picture.name == f"p1.{suffix}"
    assert grace.picture is None
    assert "photo" not in ada.data


def test_ids_that_differ_in_case_are_different_persons(table: Path, folder: Path) -> None:
    (folder / "p1.jpg").write_bytes(b"ada")
    (folder / "P1.jpg").write_bytes(b"grace")
    assert [bytes_of(row.picture) for row in read(table, folder)] == [b"ada", b"grace"]


@pytest.mark.parametrize("person_id", [".", "..", "-", "_", "a@b.c", ".hidden", "p1.jpg", "x" * 64])
def test_any_id_can_name_a_picture(tmp_path: Path, folder: Path, person_id: str) -> None:
    (tmp_path / "odd.csv").write_text(f"id\n{person_id}\n")
    (folder / f"{person_id}.jpg").write_bytes(b"odd")
    (row,), unclaimed = read_with_unclaimed_pictures(tmp_path / "odd.csv", folder)
    assert bytes_of(row.picture) == b"odd"
    assert unclaimed == []


def test_unclaimed_pictures_are_listed(table: Path, folder: Path) -> None:
    for name in ("p3.png", "p1.jpg", "p2.jpg", "Ada Lovelace.jpg", "notes.txt", "p4.gif", "bell\a.jpg"):
        (folder / name).write_bytes(b"")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    (folder / "p5.jpg").mkdir()
    os.mkfifo(folder / "p6.jpg")
    _, unclaimed = read_with_unclaimed_pictures(table, folder)
    assert unclaimed == [
        "Ada Lovelace.jpg",
        "bell�.jpg",
        "p2.jpg",
        "p3.png",
        "�.jpg",
    ]


def test_a_second_picture_of_the_same_person_is_a_fault(table: Path, folder: Path) -> None:
    for name in ("p1.png", "p1.jpg"):
        (folder / name).write_bytes(b"")
    ada, grace = read(table, folder)
    assert [(fault.path, fault.message) for fault in ada.faults] == [
        ("photo", "there are several pictures of this person: p1.jpg, p1.png; keep one")
    ]
    assert grace.faults == ()


@pytest.mark.parametrize("field", ["photo", "photo_file"])
def test_a_picture_in_the_row_and_one_beside_it_is_a_fault(tmp_path: Path, folder: Path, field: str) -> None:
    table = tmp_path / "persons.csv"
    table.write_text(f"id,{field}\np1,AAAA\np2,AAAA\np3,\n")
    for name in ("p1.jpg", "p3.jpg"):
        (folder / name).write_bytes(b"")
    first, second, third = read(table, folder)
    assert [fault.path for fault in first.faults] == [field]
    assert "p1.jpg" in first.faults[0].message
    assert second.faults == third.faults == ()


def test_a_folder_beside_json(tmp_path: Path, folder: Path) -> None:
    table = tmp_path / "persons.JSON"
    table.write_text('[{"id": "p1"}, {"id": 7}, {"name": "Ada"}]')
    (folder / "p1.jpg").write_bytes(b"ada")
    (folder / "7.jpg").write_bytes(b"seven")
    rows, unclaimed = read_with_unclaimed_pictures(table, folder)
    assert bytes_of(rows[0].picture) == b"ada"
    assert [row.picture for row in rows[1:]] == [None, None]
    assert unclaimed == ["7.jpg"]


def test_links_are_followed_and_a_missing_target_is_a_fault(table: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.bin").write_bytes(b"ada")
    (folder / "p1.jpg").symlink_to(tmp_path / "elsewhere.bin")
    (folder / "P1.jpg").symlink_to("/no/such/file")
    ada, grace = read(table, folder)
    assert bytes_of(ada.picture) == b"ada"
    assert grace.picture is None
    (tmp_path / "elsewhere.bin").unlink()
    with pytest.raises(InvalidError, match="cannot be read: No such file") as caught:
        bytes_of(ada.picture)
    assert caught.value.faults[0].path == ""


def test_a_link_to_itself_is_a_fault_when_it_is_read(table: Path, folder: Path) -> None:
    (folder / "p1.jpg").symlink_to("p1.jpg")
    with pytest.raises(InvalidError, match="cannot be read: Too many levels"):
        bytes_of(read(table, folder)[0].picture)


@pytest.mark.parametrize("length", [MAXIMUM, MAXIMUM + 1, 3 * MAXIMUM])
def test_a_picture_has_at_most_max_bytes(table: Path, folder: Path, tmp_path: Path, length: int) -> None:
    (folder / "p1.jpg").write_bytes(bytes(length))
    zipped = write_zip(tmp_path / "all.zip", {"persons.csv": CSV, "p1.jpg": bytes(length)})
    with open_person_file(zipped, None) as opened:
        for picture in (next(opened.rows()).picture, read(table, folder)[0].picture):
            if length <= MAXIMUM:
                assert len(bytes_of(picture)) == length
            else:
                with pytest.raises(InvalidError, match=rf"{length / 1e6:.1f} MB.*photos\.max_bytes"):
                    bytes_of(picture)


@pytest.mark.parametrize(("name", "hint"), [("missing", "does not exist"), ("persons.csv", "is not a folder")])
def test_a_wrong_folder_is_an_error(table: Path, tmp_path: Path, name: str, hint: str) -> None:
    assert hint in error_of(table, tmp_path / name)


def test_a_folder_may_have_limited_pictures(table: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAXIMUM_PICTURES", 3)
    for number in range(3):
        (folder / f"{number}.jpg").touch()
    assert len(read_with_unclaimed_pictures(table, folder)[1]) == 3
    (folder / "3.jpg").touch()
    assert "more than 3 pictures" in error_of(table, folder)


@pytest.mark.parametrize(
    ("name", "hint"), [("persons.xlsx", ".csv"), ("persons", ".csv"), ("missing.csv", "no such file")]
)
def test_an_unreadable_file_is_an_error(tmp_path: Path, name: str, hint: str) -> None:
    assert hint in error_of(tmp_path / name)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be read" in error_of(tmp_path / "folder.csv")


# -- in a ZIP


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_holds_a_table_and_pictures_anywhere(tmp_path: Path, compression: int) -> None:
    file = write_zip(
        tmp_path / "all.ZIP",
        {
            "__MACOSX/._persons.csv": b"mac",
            "export/__MACOSX/p1.jpg": b"mac",
            "export/photos/": b"",
            "export/photos/p1.JPG": b"ada",
            "export/list.CSV": CSV,
            "Photos\\P1.png": b"grace",
            "README.txt": b"hello",
            "p9.jpg": b"nobody",
        },
        compression,
    )
    with open_person_file(file, None) as opened:
        rows = list(opened.rows())
        assert [bytes_of(row.picture) for row in rows] == [b"ada", b"grace"]
        assert opened.unclaimed_pictures == ["p9.jpg"]
        assert opened.progress() == 1.0


def test_a_zip_of_json(tmp_path: Path, folder: Path) -> None:
    file = write_zip(tmp_path / "all.zip", {"persons.json": b'[{"id": "p1"}]', "p1.jpg": b"ada"})
    assert [row.picture is not None for row in read(file)] == [True]
    assert "the archive contains pictures" in error_of(file, folder)


def test_a_folder_may_lie_beside_a_zip_without_pictures(tmp_path: Path, folder: Path) -> None:
    (folder / "p1.jpg").write_bytes(b"ada")
    file = write_zip(tmp_path / "all.zip", {"persons.csv": CSV})
    assert bytes_of(read(file, folder)[0].picture) == b"ada"


def test_the_same_picture_twice_in_a_zip_is_a_fault(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "all.zip", {"a/p1.jpg": b"", "b/p1.jpg": b"", "persons.csv": CSV})
    assert "a/p1.jpg, b/p1.jpg" in read(file)[0].faults[0].message


@pytest.mark.parametrize(
    ("members", "hint"),
    [
        ({}, "found none"),
        ({"p1.jpg": b""}, "found none"),
        ({"a.csv": CSV, "b/b.json": b"[]"}, "found a.csv, b/b.json"),
        ({"persons.csv": b"id\n\x81\n"}, "row 2: is neither UTF-8 nor Windows-1252"),
    ],
)
def test_a_zip_must_have_one_table(tmp_path: Path, members: dict[str, bytes], hint: str) -> None:
    assert hint in error_of(write_zip(tmp_path / "all.zip", members))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("odd", ["persons.csv", "p1.jpg"])
def test_an_uncommon_compression_is_an_error(tmp_path: Path, compression: int, odd: str) -> None:
    file = tmp_path / "all.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("persons.csv", "p1.jpg"):
            archive.writestr(name, CSV, compression if name == odd else zipfile.ZIP_DEFLATED)
    assert f"{odd} in the archive is compressed with a method" in error_of(file)


def patched(content: bytes, name: bytes, central_offset: int, value: bytes) -> bytes:
    """Replace bytes in the list of members, at `central_offset` from the entry of that name."""
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(name)) + central_offset
    return content[:at] + value + content[at + len(value) :]


@pytest.mark.parametrize("name", [b"persons.csv", b"p1.jpg"])
def test_an_encrypted_member_is_an_error(tmp_path: Path, name: bytes) -> None:
    file = write_zip(tmp_path / "all.zip", {"persons.csv": CSV, "p1.jpg": b"ada"})
    file.write_bytes(patched(file.read_bytes(), name, 8, b"\x01\x00"))
    assert error_of(file) == f"{name.decode()} in the archive is encrypted; create it without a password"


def test_a_damaged_picture_is_a_fault_of_its_row_alone(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(1000)
    file = write_zip(tmp_path / "all.zip", {"persons.csv": CSV, "p1.jpg": data, "P1.jpg": data}, zipfile.ZIP_STORED)
    file.write_bytes(file.read_bytes().replace(data, data[:-1] + b"?", 1))
    with open_person_file(file, None) as opened:
        ada, grace = opened.rows()
        with pytest.raises(InvalidError, match="damaged here") as caught:
            bytes_of(ada.picture)
        assert caught.value.faults[0].path == ""
        assert bytes_of(grace.picture) == data
    with pytest.raises(InvalidError, match="damaged here"):
        bytes_of(grace.picture)


def test_a_damaged_table_is_an_error(tmp_path: Path) -> None:
    text = b"id,name\n" + b"".join(b"%d,Ada\n" % number for number in range(50_000))
    file = write_zip(tmp_path / "all.zip", {"persons.csv": text}, zipfile.ZIP_STORED)
    file.write_bytes(file.read_bytes().replace(b"\n49000,Ada", b"\n49000,Eve"))
    with open_person_file(file, None) as opened:
        rows = opened.rows()
        assert next(rows).data["id"] == "0"
        with pytest.raises(PersonFileError, match="the archive is damaged"):
            list(rows)


@pytest.mark.parametrize("cut", [0, 10, 60, 150, -1, -22, -60])
def test_an_archive_that_was_cut_off_is_an_error(tmp_path: Path, cut: int) -> None:
    file = write_zip(tmp_path / "all.zip", {"persons.csv": CSV * 50, "p1.jpg": b"ada" * 100})
    file.write_bytes(file.read_bytes()[:cut])
    assert "damaged" in error_of(file)


@pytest.mark.parametrize("sizes", ["usual", "of 64 bits"])
def test_any_damaged_archive_is_an_error_or_read(tmp_path: Path, sizes: str) -> None:
    file = tmp_path / "all.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("persons.csv", CSV), ("p1.jpg", b"ada")):
            with archive.open(name, "w", force_zip64=sizes != "usual") as member:
                member.write(data)
    content = file.read_bytes()
    randomness = random.Random(2)
    outcomes = set()
    for _ in range(500):
        mangled = bytearray(content)
        for _ in range(randomness.randint(1, 4)):
            mangled[randomness.randrange(len(content))] = randomness.randrange(256)
        file = tmp_path / "mangled.zip"
        file.write_bytes(mangled)
        try:
            with open_person_file(file, None) as opened:
                for row in opened.rows():
                    if row.picture is not None:
                        bytes_of(row.picture)
            outcomes.add("read")
        except (PersonFileError, InvalidError) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"read", "PersonFileError", "InvalidError"}


def test_a_picture_with_a_huge_unpacked_size_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "all.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("persons.csv", CSV)
        archive.writestr("p1.jpg", bytes(50_000_000))
        archive.writestr("P1.jpg", bytes(50_000_000))
    # The list of members states a small size for the second one.
    file.write_bytes(patched(file.read_bytes(), b"P1.jpg", 24, struct.pack("<L", 1000)))
    with open_person_file(file, None) as opened:
        ada, grace = opened.rows()
        with pytest.raises(InvalidError, match=r"50\.0 MB, at most"):
            bytes_of(ada.picture)
        with pytest.raises(InvalidError, match="damaged"):
            bytes_of(grace.picture)


def test_a_member_beyond_the_end_of_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "all.zip"
    beyond = zipfile.ZipInfo("p1.jpg")
    beyond.extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("persons.csv", CSV)
        archive.writestr(beyond, b"ada")
    file.write_bytes(patched(file.read_bytes(), b"p1.jpg", 42, b"\xff" * 4))
    with pytest.raises((PersonFileError, InvalidError), match="damaged"):
        bytes_of(read(file)[0].picture)


def test_a_large_picture_is_read_where_large_ones_are_allowed(tmp_path: Path) -> None:
    data = bytes(40_000_000)
    file = write_zip(tmp_path / "all.zip", {"persons.csv": CSV, "p1.jpg": data}, zipfile.ZIP_STORED)
    with open_person_file(file, None) as opened:
        picture = next(opened.rows()).picture
        assert picture is not None
        assert picture.read(50_000_000) == data


def test_a_table_with_a_huge_unpacked_size_is_not_unpacked(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "all.zip", {"persons.csv": CSV})
    file.write_bytes(patched(file.read_bytes(), b"persons.csv", 24, struct.pack("<L", 2**31 + 1)))
    assert "more than 2 GB" in error_of(file)


def test_an_archive_may_have_limited_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAXIMUM_MEMBERS", 3)
    assert read(write_zip(tmp_path / "three.zip", {"persons.csv": CSV, "p1.jpg": b"", "p2.jpg": b""}))
    four = write_zip(tmp_path / "four.zip", {"persons.csv": CSV, "p1.jpg": b"", "p2.jpg": b"", "p3.txt": b""})
    assert "more than 3 members" in error_of(four)


def test_a_million_members_are_not_even_listed(tmp_path: Path) -> None:
    entry = io.BytesIO()
    with zipfile.ZipFile(entry, "w") as archive:
        archive.writestr("x", b"")
    central = entry.getvalue()[31 : 31 + 47]
    assert central.startswith(b"PK\x01\x02")
    listed = central * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(listed), 31, 0)
    file = tmp_path / "all.zip"
    file.write_bytes(entry.getvalue()[:31] + listed + end)
    assert "too many members" in error_of(file)


def test_pictures_of_a_zip_are_read_in_threads(tmp_path: Path) -> None:
    randomness = random.Random(3)
    expected = {f"p{number}": randomness.randbytes(50_000) for number in range(200)}
    table = "id\n" + "".join(f"{person_id}\n" for person_id in expected)
    members = {"persons.csv": table.encode()} | {f"{one}.jpg": data for one, data in expected.items()}
    file = write_zip(tmp_path / "all.zip", members)
    together = threading.Barrier(4)

    with open_person_file(file, None) as opened, ThreadPoolExecutor(4) as pool:
        rows = list(opened.rows())

        def read_all(_: int) -> dict[object, bytes]:
            together.wait()
            return {row.data["id"]: bytes_of(row.picture) for row in rows}

        assert list(pool.map(read_all, range(4))) == [expected] * 4
