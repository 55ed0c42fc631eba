"""Imports: the whole file is checked first, only differences are applied, and a running bridge notices them."""

from pathlib import Path

import pytest
from cryptography.fernet import InvalidToken

from bridge.import_export.differences import DifferenceKind
from bridge.import_export.photo_spool import PhotoSpool
from bridge.persons.preparation import PreparedPhoto
from bridge.store.person_queries import counts as stored_counts
from bridge.store.person_queries import entry as entry_of
from bridge.store.person_queries import page
from tests.import_export.transfer_system import TransferSystem, transfer_system
from tests.persons.person_system import PHOTO, person, sent
from tests.support.waiting import until


def changes(system: TransferSystem) -> list[tuple[str | None, str | None, str]]:
    return [(one.reply.sn, one.reply.person_id, one.reply.outcome.value) for one in system.replies]


async def test_persons_with_pictures_reach_the_terminals(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        connection = system.person_system.connect()
        photos = system.picture("1001")
        system.picture("1002", 2)
        file = system.write({"id": "1001", "name": "Ada", "card": "0042"}, {"id": "1002", "name": "Grace"})
        imported = await system.import_(file, ("T1", "T2"), photos=photos)
        assert imported.differences.totals() == {DifferenceKind.NEW: 4}
        await until(lambda: sent(connection) == ["set 1001", "set 1002"])
        assert changes(system) == [(sn, one, "accepted") for sn in ("T1", "T2") for one in ("1001", "1002")]
        assert {one.origin.user for one in system.replies} == {"ann"}
        first, _ = await system.read(page, "T2", "", 10)
        assert first.person is not None
        assert (first.person.card, first.request is not None) == ("0042", True)


async def test_only_what_differs_is_changed(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1", name="Ada"), person("2", name="Grace"), person("3", name="Linus"))
        connection = system.person_system.connect()
        await system.person_system.settled()
        connection.frames.clear()
        file = system.write(
            {"id": "1", "name": "Ada", "card": ""}, {"id": "2", "name": "Grace", "card": "7"}, {"id": "3", "name": "L"}
        )
        imported = await system.import_(file)
        assert [
            (one.person_id, one.kind, [(field.name, field.before, field.after) for field in one.fields])
            for one in imported.differences.terminals
        ] == [
            ("2", DifferenceKind.CHANGED, [("card", None, "7")]),
            ("3", DifferenceKind.CHANGED, [("name", "Linus", "L")]),
        ]
        assert imported.differences.unchanged == {"T1": 1}
        await until(lambda: sent(connection) == ["set 2", "set 3"])
        assert changes(system) == [("T1", "2", "accepted"), ("T1", "3", "accepted")]
        again = await system.import_(file)
        assert again.differences.totals() == {}
        assert len(changes(system)) == 2


async def test_persons_that_are_not_in_the_file_stay(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1"), person("2"), person("3"))
        imported = await system.import_(system.write({"id": "2", "card": "7"}))
        assert imported.differences.totals() == {DifferenceKind.CHANGED: 1}
        assert [entry.person_id for entry in await system.read(page, "T1", "", 9) if entry.held] == [
            "1",
            "2",
            "3",
        ]


async def test_a_terminal_where_a_person_does_not_differ_is_left_alone(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1", card="7"))
        await system.person_system.set(person("1"), sn="T2")
        first = await system.read(entry_of, "T1", "1")
        await system.import_(system.write({"id": "1", "card": "7"}), ("T1", "T2"))
        assert changes(system) == [("T2", "1", "accepted")]
        assert await system.read(entry_of, "T1", "1") == first


async def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        photos = system.picture("1")
        (photos / "2.jpg").write_bytes(b"no picture")
        file = system.write(
            {"id": "1", "name": "Ada", "valid_until": "never"},
            {"id": "2", "name": ""},
            {"id": "3", "name": "Linus"},
            {"id": "1", "name": "Ada"},
        )
        checked, differences = await system.check(file, ("T1", "T2"), photos=photos)
        assert [f"{fault.row} {fault.fault.path}" for fault in checked.faults] == [
            "2 valid_until",
            "3 name",
            "3 photo",
            "5 id",
        ]
        assert [str(fault) for fault in differences.faults] == [
            "row 4: photo: is missing: a new person needs a photo, as 'photo' or 'photo_file'"
        ]
        assert "never" in str(checked.faults[0])
        assert await system.read(page, "T1", "", 10) == []


async def test_a_fault_for_some_terminals_names_them(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1"))
        await system.person_system.set(person("2"), sn="T2")
        file = system.write({"id": "1", "card": "7"}, {"id": "2", "card": "8"})
        _, differences = await system.check(file, ("T1", "T2"))
        assert [(fault.row, fault.fault.path, fault.places) for fault in differences.faults] == [
            (2, "name", ("T2",)),
            (2, "photo", ("T2",)),
            (3, "name", ("T1",)),
            (3, "photo", ("T1",)),
        ]
        assert str(differences.faults[0]).startswith("row 2 (for T2): name: is missing")


async def test_pruning_removes_persons_that_are_not_in_the_file(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(*(person(str(number)) for number in range(5)))
        await system.person_system.set(person("4", enabled=False), person("9"), sn="T2")
        file = system.write({"id": "1"}, {"id": "2"})
        _, differences = await system.check(file, prune=True)
        assert differences.held == {"T1": 5}
        assert differences.removed() == {"T1": ["0", "3", "4"]}
        assert len(await system.read(page, "T1", "", 10)) == 5
        connection = system.person_system.connect()
        await system.import_(file, prune=True)
        await until(lambda: set(sent(connection)) >= {"remove 0", "remove 3", "remove 4"})
        assert len(await system.read(page, "T2", "", 10)) == 2


async def test_a_person_removed_during_the_import_is_reported_and_does_not_block_others(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        await system.person_system.set(person("1"), person("2"))
        file = system.write({"id": "1", "card": "7"}, {"id": "2", "card": "8"})

        async def remove() -> None:
            await system.person_system.remove("1")

        imported = await system.import_(file, between=remove)
        assert {(fault.row, fault.fault.path) for fault in imported.late} == {(2, "name"), (2, "photo")}
        entry = await system.read(entry_of, "T1", "2")
        assert entry is not None
        assert entry.person is not None
        assert entry.person.card == "8"


async def test_many_persons_on_many_terminals(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        sns = [f"N{number}" for number in range(30)]
        file = system.write(*({"id": str(number), "name": "N", "photo": PHOTO} for number in range(130)))
        imported = await system.import_(file, sns)
        assert imported.differences.totals() == {DifferenceKind.NEW: 3900}
        counts = await system.read(stored_counts)
        assert {sn: counts[sn].desired for sn in sns} == dict.fromkeys(sns, 130)


async def test_unclaimed_pictures_are_listed(tmp_path: Path) -> None:
    async with transfer_system(tmp_path) as system:
        photos = system.picture("1")
        system.picture("9")
        checked, _ = await system.check(system.write({"id": "1", "name": "Ada"}), photos=photos)
        assert list(checked.unclaimed_pictures) == ["9.jpg"]


def test_the_spool_is_encrypted(tmp_path: Path) -> None:
    photo = PreparedPhoto("a" * 64, b"a face " * 1000)
    with (tmp_path / "spool").open("w+b") as file, PhotoSpool(None, file) as spool:
        first = spool.add(photo)
        assert spool.add(photo) is first
        second = spool.add(PreparedPhoto("b" * 64, b"another"))
        assert spool.read(second).jpeg == b"another"
        assert spool.read(first) == photo
        file.seek(0)
        assert b"a face" not in file.read()
        file.seek(50)
        file.write(b"!")
        with pytest.raises(InvalidToken):
            spool.read(first)


def test_the_file_of_the_spool_has_no_name(tmp_path: Path) -> None:
    with PhotoSpool(tmp_path) as spool:
        spool.add(PreparedPhoto("a" * 64, b"a face"))
        assert list(tmp_path.iterdir()) == []
