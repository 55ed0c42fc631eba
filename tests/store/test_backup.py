"""Backups: made while other programs write, restored into either database, and never in part."""

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, select

from bridge.core.replies import ReplyBuilder
from bridge.model.faults import UnavailableError
from bridge.model.person_entry import DeliveryState
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import Outcome
from bridge.model.secret import Secret
from bridge.store.backup import BroughtBack, back_up, persons_brought_back, restore
from bridge.store.database import Database
from bridge.store.errors import StoreDamagedError, StoreInUseError, StoreMissingError, StoreTooNewError
from bridge.store.group_queries import group_sizes, memberships
from bridge.store.instance_lock import instance_lock
from bridge.store.person_queries import (
    add_final_replies,
    counts,
    final_replies,
    last_final_reply_id,
    next_revisions,
    page,
)
from bridge.store.photos import PhotoCipher, add_photos, read_photo
from bridge.store.received_messages import add_command
from bridge.store.tables import RECEIVED_MESSAGE
from tests.store.test_store_migrations import KEPT, put_back
from tests.support.core import ManualClock
from tests.support.postgresql import PostgreSQL

CIPHER = PhotoCipher([Secret(Fernet.generate_key().decode())])
ENCRYPTED = hashlib.sha256(b"encrypted").hexdigest()


def execute(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def ignore(_done: int, _total: int) -> None:
    """Ignore the progress."""


async def fill(url: str) -> None:
    """Fill every table: with the rows of an earlier version, and with an encrypted photo."""
    await put_back(url, KEPT[0])
    database = await Database.open(url)
    await database.write(add_photos, CIPHER, {ENCRYPTED: b"encrypted"})
    await database.close()


async def check(url: str, *, sent_again: bool) -> None:
    database = await Database.open(url)
    p1, p2 = await database.read(page, "T1", "", 10)
    assert p1.person is not None
    assert p1.person.card == "0042"
    assert await database.read(read_photo, CIPHER, p1.person.photo) is not None
    assert await database.read(read_photo, CIPHER, ENCRYPTED) == b"encrypted"
    assert p2.request is not None
    assert p2.request.request_id == "r2"
    if sent_again:
        assert {p1.delivery, p2.delivery} == {DeliveryState.PENDING}
    assert await database.write(next_revisions, 1) == 8
    await database.write(add_final_replies, await database.read(final_replies, 0, 9, 1))
    assert await database.read(last_final_reply_id) == 3
    await database.close()


async def confirm_all(url: str) -> None:
    database = await Database.open(url)
    await database.write(execute, "UPDATE person_entry SET delivery = 'confirmed'")
    await database.close()


async def test_a_backup_is_restored_into_an_empty_store(store_url: str, tmp_path: Path) -> None:
    await fill(store_url)
    progress: list[tuple[int, int]] = []
    rows = await back_up(store_url, tmp_path / "backup", lambda done, total: progress.append((done, total)))
    assert progress[-1] == (rows, rows)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert await restore(tmp_path / "backup", f"sqlite:///{tmp_path}/other.db", ignore) is None
    await check(f"sqlite:///{tmp_path}/other.db", sent_again=True)


@pytest.mark.slow
async def test_a_backup_of_sqlite_replaces_a_store_in_postgresql(postgresql: PostgreSQL, tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path}/store.db", await postgresql.new_url()
    await fill(source)
    await confirm_all(source)
    await fill(target)
    await back_up(source, tmp_path / "backup", ignore)
    assert await restore(tmp_path / "backup", target, ignore) is None
    await check(target, sent_again=True)


async def test_restore_replaces_the_store_and_keeps_the_old_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    await confirm_all(url)
    await back_up(url, tmp_path / "backup", ignore)
    database = await Database.open(url)
    await database.write(execute, "DELETE FROM person_entry")
    await database.close()
    before = await restore(tmp_path / "backup", url, ignore)
    await check(url, sent_again=True)
    assert before == tmp_path / "store.db.before-restore"
    with closing(sqlite3.connect(before)) as kept:
        assert kept.execute("SELECT count(*) FROM person_entry").fetchall() == [(0,)]


async def test_a_restored_store_has_passed_its_check(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    database = await Database.open(url)
    await database.write(execute, "INSERT INTO counter VALUES ('unclean', 1), ('damaged', 1)")
    await database.close()
    await back_up(url, tmp_path / "backup", ignore)
    await restore(tmp_path / "backup", url, ignore)
    with closing(sqlite3.connect(tmp_path / "store.db")) as restored:
        assert restored.execute("SELECT name FROM counter").fetchall() == [("revision",)]


async def test_persons_that_were_removed_or_disabled_since_a_backup_are_found(store_url: str, tmp_path: Path) -> None:
    await fill(store_url)
    await back_up(store_url, tmp_path / "backup", ignore)
    assert await persons_brought_back(tmp_path / "backup", store_url) == BroughtBack(0, [])
    before = (tmp_path / "backup").read_bytes()
    database = await Database.open(store_url)
    await database.write(execute, "UPDATE person_entry SET held = false WHERE sn = 'T1'")
    await database.close()
    found = await persons_brought_back(tmp_path / "backup", store_url)
    assert (found.number, found.first) == (1, [("T1", "p1")])
    database = await Database.open(store_url)
    await database.write(execute, "DELETE FROM person_entry")
    await database.close()
    found = await persons_brought_back(tmp_path / "backup", store_url)
    assert (found.number, found.first) == (2, [("T1", "p1"), ("T2", "p1")])
    assert (tmp_path / "backup").read_bytes() == before


async def test_persons_that_left_a_group_since_a_backup_are_found_and_come_back(store_url: str, tmp_path: Path) -> None:
    await fill(store_url)
    database = await Database.open(store_url)
    await database.write(
        execute,
        "INSERT INTO group_person (group_name, person_id, revision, desired, photo_sha256, changed_at)"
        " SELECT 'staff', person_id, revision, desired, photo_sha256, changed_at FROM person_entry WHERE sn = 'T1'",
    )
    await database.write(execute, "INSERT INTO group_member (sn, group_name) VALUES ('T1', 'staff')")
    await database.close()
    await back_up(store_url, tmp_path / "backup", ignore)
    assert await persons_brought_back(tmp_path / "backup", store_url) == BroughtBack(0, [])
    database = await Database.open(store_url)
    await database.write(execute, "DELETE FROM group_person")
    await database.write(execute, "DELETE FROM group_member")
    await database.close()
    found = await persons_brought_back(tmp_path / "backup", store_url)
    assert (found.number, found.first) == (1, [("group staff", "p1")])
    await restore(tmp_path / "backup", store_url, ignore)
    database = await Database.open(store_url)
    # The disabled person comes back, too, but is not sent to a terminal.
    assert await database.read(group_sizes) == {"staff": 2}
    assert await database.read(memberships) == {"T1": {"staff"}}
    await database.close()


async def test_received_messages_come_back(store_url: str, tmp_path: Path) -> None:
    database = await Database.open(store_url)
    clock = ManualClock()
    message = ReceivedMessage(digest="d" * 64, packet_id=7)
    reply = ReplyBuilder("setPerson", "r1", "T1", clock.boottime(), clock).reply(Outcome.ACCEPTED, person_id="p1")
    await database.write(add_command, message, reply, clock.now())
    await database.close()
    await back_up(store_url, tmp_path / "backup", ignore)
    await restore(tmp_path / "backup", store_url, ignore)
    database = await Database.open(store_url)
    stored = await database.read(lambda connection: connection.execute(select(RECEIVED_MESSAGE)).one())
    assert (stored.digest, stored.packet_id) == (message.digest, 7)
    await database.close()


async def test_a_missing_or_damaged_store_has_nobody_to_bring_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    await back_up(url, tmp_path / "backup", ignore)
    (tmp_path / "store.db").write_bytes(b"damaged" * 1000)
    assert (await persons_brought_back(tmp_path / "backup", url)).number == 0
    assert (await persons_brought_back(tmp_path / "backup", f"sqlite:///{tmp_path}/other.db")).number == 0
    assert not (tmp_path / "other.db").exists()


async def test_a_backup_has_one_state_while_another_program_writes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    with closing(sqlite3.connect(tmp_path / "store.db")) as other:
        other.execute("DELETE FROM outbox")
        # Not committed: the backup neither waits for it nor sees it.
        await back_up(url, tmp_path / "backup", ignore)
    with closing(sqlite3.connect(tmp_path / "backup")) as backup:
        assert backup.execute("SELECT count(*) FROM outbox").fetchall() == [(2,)]


async def test_a_damaged_store_is_replaced_and_kept_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    await back_up(url, tmp_path / "backup", ignore)
    (tmp_path / "store.db").write_bytes(b"damaged" * 1000)
    before = await restore(tmp_path / "backup", url, ignore)
    await check(url, sent_again=True)
    assert before is not None
    assert before.read_bytes() == b"damaged" * 1000


async def test_restore_is_refused_while_a_bridge_runs(store_url: str, tmp_path: Path) -> None:
    await fill(store_url)
    await back_up(store_url, tmp_path / "backup", ignore)
    async with instance_lock(store_url):
        await back_up(store_url, tmp_path / "another", ignore)
        with pytest.raises(StoreInUseError):
            await restore(tmp_path / "backup", store_url, ignore)


@pytest.mark.parametrize("content", [b"", b"no backup\n" * 100], ids=["empty", "text"])
async def test_a_file_that_is_no_backup_changes_nothing(tmp_path: Path, content: bytes) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    (tmp_path / "backup").write_bytes(content)
    with pytest.raises(StoreDamagedError, match="nothing was changed"):
        await restore(tmp_path / "backup", url, ignore)
    await check(url, sent_again=False)


async def test_a_backup_of_a_newer_version_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    await back_up(url, tmp_path / "backup", ignore)
    with closing(sqlite3.connect(tmp_path / "backup")) as backup:
        backup.execute("UPDATE alembic_version SET version_num = '9999'")
        backup.commit()
    with pytest.raises(StoreTooNewError):
        await restore(tmp_path / "backup", url, ignore)
    await check(url, sent_again=False)


async def test_a_backup_of_an_earlier_version_is_upgraded_in_a_copy(tmp_path: Path) -> None:
    backup, url = tmp_path / "backup", f"sqlite:///{tmp_path}/store.db"
    await put_back(f"sqlite:///{backup}", KEPT[0])
    content = backup.read_bytes()
    await restore(backup, url, ignore)
    assert backup.read_bytes() == content
    database = await Database.open(url)
    assert (await database.read(counts))["T1"].pending == 2
    await database.close()


async def test_a_failed_backup_leaves_the_older_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    await fill(url)
    with pytest.raises(UnavailableError, match="cannot be written: No such file or directory"):
        await back_up(url, tmp_path / "missing" / "backup", ignore)
    (tmp_path / "backup").mkdir()
    with pytest.raises(UnavailableError, match="cannot be written: Is a directory"):
        await back_up(url, tmp_path / "backup", ignore)
    assert os.listdir(tmp_path / "backup") == []  # noqa: PTH208  as plain as it gets


async def test_a_missing_store_gives_no_backup(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="there is no store at"):
        await back_up(f"sqlite:///{tmp_path}/missing.db", tmp_path / "backup", ignore)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
