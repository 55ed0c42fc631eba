"""Reading pictures: base64, data URIs, and files inside the folders only."""

import base64
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.faults import InvalidError
from bridge.persons.photos.sources import read_file, read_inline

DATA = bytes(range(256)) * 3
TEXT = base64.b64encode(DATA).decode()
MAXIMUM = 1000


def fault_of(error: pytest.ExceptionInfo[InvalidError]) -> str:
    (fault,) = error.value.faults
    return fault.message


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        base64.encodebytes(DATA).decode(),
        f"\r\n\t{TEXT} ",
        f"data:image/jpeg;base64,{TEXT}",
        f"DATA:image/png;name=ada.png;BASE64, {TEXT}",
        f"data:;base64,{TEXT}",
    ],
)
def test_base64_and_data_uris_are_decoded(text: str) -> None:
    assert read_inline(text, MAXIMUM) == DATA


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("data:image/jpeg;base64,", "is empty"),
        ("data:image/jpeg,abcd", "data URI must begin"),
        ("data:image/jpeg;base64", "data URI must begin"),
        ("data:" + "x" * 10_000 + ";base64,AAAA", "data URI must begin"),
        (TEXT.replace("+", "%2B"), "percent-encoded"),
        (base64.urlsafe_b64encode(DATA).decode(), "URL-safe"),
        ("/media/photos/ada.jpg", "photo_file"),
        ("https://example.org/ada.jpg", "not fetched"),
        ("Ünicode", "not base64"),
        (TEXT[:-1], "cut off"),
        ("AAAAA", "cut off"),
        ("AAA=AAAA", "= signs"),
        ("====", "= signs"),
    ],
)
def test_text_that_is_not_base64_is_a_fault(text: str, hint: str) -> None:
    with pytest.raises(InvalidError) as error:
        read_inline(text, MAXIMUM)
    assert hint in fault_of(error)


@pytest.mark.parametrize("length", [MAXIMUM - 1, MAXIMUM, MAXIMUM + 1, MAXIMUM + 2])
def test_the_limit_is_of_the_decoded_bytes(length: int) -> None:
    text = base64.encodebytes(bytes(length)).decode()
    if length <= MAXIMUM:
        assert len(read_inline(text, MAXIMUM)) == length
    else:
        with pytest.raises(InvalidError, match=r"photos\.max_bytes"):
            read_inline(text, MAXIMUM)


def test_a_too_large_text_is_not_decoded() -> None:
    # Not base64: decoding would report this fault instead.
    with pytest.raises(InvalidError, match=r"photos\.max_bytes"):
        read_inline("?" * 10_000, MAXIMUM)


@given(st.binary(min_size=1, max_size=MAXIMUM))
def test_any_encoded_bytes_are_decoded(data: bytes) -> None:
    assert read_inline(base64.b64encode(data).decode(), MAXIMUM) == data


@given(st.text(max_size=300))
def test_any_text_gives_bytes_or_a_fault(text: str) -> None:
    try:
        assert read_inline(text, MAXIMUM)
    except InvalidError as error:
        assert error.faults  # noqa: PT017  both ends are right, each in its way


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two folders with a file each, and a secret file outside."""
    for name in ("first", "second"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / f"{name}.jpg").write_bytes(name.encode())
    (tmp_path / "second" / "sub" / "deep.jpg").write_bytes(b"deep")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "first-aid").mkdir()
    (tmp_path / "first-aid" / "secret.jpg").write_bytes(b"secret")
    return [tmp_path / "first", tmp_path / "second"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("{0}/first.jpg", b"first"),
        ("{1}/sub/deep.jpg", b"deep"),
        ("{0}/../second/second.jpg", b"second"),
        ("first.jpg", b"first"),
        ("second.jpg", b"second"),
        ("sub/deep.jpg", b"deep"),
        ("sub/../../second/./second.jpg", b"second"),
    ],
)
def test_a_file_inside_the_folders_is_read(folders: list[Path], path: str, content: bytes) -> None:
    assert read_file(path.format(*folders), folders, MAXIMUM) == content


@pytest.mark.parametrize(
    "path",
    [
        "{0}/../secret.jpg",
        "../secret.jpg",
        "{0}-aid/secret.jpg",
        "../first-aid/secret.jpg",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
        "/no/such/file",
        "{0}/link.jpg",
        "{0}/sub/folder/secret.jpg",
        "{0}/sub/folder/missing.jpg",
        "{0}/dangling.jpg",
    ],
)
def test_no_path_reads_a_file_outside_the_folders(folders: list[Path], path: str) -> None:
    (folders[0] / "link.jpg").symlink_to(folders[0].parent / "secret.jpg")
    (folders[0] / "sub" / "folder").symlink_to(folders[0].parent)
    (folders[0] / "dangling.jpg").symlink_to("/no/such/file")
    with pytest.raises(InvalidError) as error:
        read_file(path.format(*folders), folders, MAXIMUM)
    # The message is the same for existing and missing files, so it does not reveal what is outside.
    assert fault_of(error) == "must lie inside one of photos.folders of the configuration"


@pytest.mark.parametrize("path", ["link.jpg", "dangling.jpg"])
def test_a_link_to_the_outside_is_ignored_if_another_folder_has_the_file(folders: list[Path], path: str) -> None:
    (folders[0] / "link.jpg").symlink_to(folders[0].parent / "secret.jpg")
    (folders[0] / "dangling.jpg").symlink_to("/no/such/file")
    with pytest.raises(InvalidError, match="no such file"):
        read_file(path, folders, MAXIMUM)
    (folders[1] / path).write_bytes(b"second")
    assert read_file(path, folders, MAXIMUM) == b"second"


def test_a_link_from_one_folder_to_another_is_followed(folders: list[Path]) -> None:
    (folders[0] / "link.jpg").symlink_to(folders[1] / "second.jpg")
    assert read_file("link.jpg", folders, MAXIMUM) == b"second"


def test_a_folder_may_be_a_link_itself(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "media").symlink_to(folders[0])
    assert read_file(f"{tmp_path}/media/first.jpg", [tmp_path / "media"], MAXIMUM) == b"first"
    assert read_file(f"{folders[0]}/first.jpg", [tmp_path / "media"], MAXIMUM) == b"first"


def test_a_path_that_is_swapped_for_a_link_outside_is_noticed(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folders[0] / "first.jpg"
    really_open = os.open

    def swap_and_open(path: str | Path, flags: int) -> int:
        if Path(path) == target:
            target.unlink()
            target.symlink_to(folders[0].parent / "secret.jpg")
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", swap_and_open)
    with pytest.raises(InvalidError, match="must lie inside"):
        read_file("first.jpg", folders, MAXIMUM)
    assert target.is_symlink()


@pytest.mark.parametrize("path", ["pipe.jpg", "socket.jpg", "sub", ".", "{0}"])
def test_only_a_regular_file_is_read_and_nothing_blocks(
    folders: list[Path], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folders[0] / "pipe.jpg")
    monkeypatch.chdir(folders[0])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        with pytest.raises(InvalidError, match="not a regular file"):
            read_file(path.format(*folders), folders, MAXIMUM)


def test_a_missing_file_is_a_fault_that_names_where_it_was_looked_for(folders: list[Path]) -> None:
    expected = f"there is no such file: {folders[0].resolve()}/missing.jpg, nor in the other {len(folders) - 1}"
    with pytest.raises(InvalidError, match=re.escape(expected)):
        read_file("missing.jpg", folders, MAXIMUM)
    with pytest.raises(InvalidError, match="cannot be read"):
        read_file("first.jpg/missing.jpg", folders, MAXIMUM)


@pytest.mark.parametrize("path", ["x" * 300, "loop.jpg", "nul\0.jpg"])
def test_an_impossible_path_is_a_fault(folders: list[Path], path: str) -> None:
    (folders[0] / "loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(InvalidError):
        read_file(path, folders, MAXIMUM)


def test_a_file_without_read_permission_is_a_fault(folders: list[Path]) -> None:
    (folders[0] / "first.jpg").chmod(0)
    user = os.geteuid()
    if user == 0:
        # Root may read everything, so change to an ordinary user.
        os.seteuid(65534)
    try:
        with pytest.raises(InvalidError, match="the bridge may not read"):
            read_file(f"{folders[0]}/first.jpg", folders, MAXIMUM)
    finally:
        os.seteuid(user)


def test_a_too_large_file_is_a_fault(folders: list[Path]) -> None:
    (folders[0] / "large.jpg").write_bytes(bytes(MAXIMUM + 1))
    (folders[0] / "right.jpg").write_bytes(bytes(MAXIMUM))
    assert len(read_file("right.jpg", folders, MAXIMUM)) == MAXIMUM
    with pytest.raises(InvalidError, match=r"photos\.max_bytes"):
        read_file("large.jpg", folders, MAXIMUM)


def test_without_folders_nothing_is_read() -> None:
    with pytest.raises(InvalidError, match=r"files cannot be read: list their folder in photos\.folders"):
        read_file("/etc/hostname", [], MAXIMUM)


def test_no_descriptor_is_left_open(folders: list[Path]) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("first.jpg", "missing.jpg", "sub", "../secret.jpg"):
        try:
            read_file(path, folders, MAXIMUM)
        except InvalidError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before
