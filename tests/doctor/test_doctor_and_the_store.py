"""The doctor's findings about real stores. It does not change them."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.core.clock import Clock
from bridge.core.replies import ReplyBuilder
from bridge.core.request_age import request_age
from bridge.doctor.store import evaluate_filesystem, evaluate_groups, evaluate_store, filesystem_of
from bridge.model.audit import AuditRecord
from bridge.model.origin import Origin
from bridge.model.reply import Outcome
from bridge.model.secret import Secret
from bridge.store.audit import StoredAudit
from bridge.store.database import Database
from bridge.store.inspection import inspect_store
from tests.doctor.doctor_system import Findings, configuration_at, run_doctor
from tests.support.core import known_terminal
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL
from tests.support.small_disk import SmallDisk

KEPT = Path(__file__).parents[1] / "store" / "kept" / "0001.sql"
KEYS = [Secret("A" * 43 + "="), Secret("B" * 43 + "=")]
NOW = datetime(2026, 11, 26, 8, 1, tzinfo=UTC)


def old_store(file: Path) -> str:
    """Create a store with the first schema, and persons pending since 2026-11-24 08:00; return its URL."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(KEPT.read_text())
    return f"sqlite:///{file}"


async def upgraded(url: str) -> str:
    await (await Database.open(url)).close()
    return url


async def inspect(url: str, keys: list[Secret] | None = None) -> Findings:
    inspection = await inspect_store(url, keys or [])
    return Findings(evaluate_store(inspection, "the store", NOW, bridge_running=False))


async def test_no_store_yet(tmp_path: Path) -> None:
    found = await inspect(f"sqlite:///{tmp_path}/none.db")
    assert found.codes == {"store_absent"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["store.db", "a blank, a # and a %41.db"])
async def test_a_good_store(tmp_path: Path, name: str) -> None:
    url = await upgraded(f"sqlite:///{tmp_path}/{name}")
    assert (await inspect(url)).codes == {"store_ok"}


async def test_photos_that_are_known_to_be_damaged(tmp_path: Path) -> None:
    url = await upgraded(f"sqlite:///{tmp_path}/store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("INSERT INTO counter (name, value) VALUES ('damaged_photos', 2)")
    found = await inspect(url)
    assert found.codes == {"store_ok", "store_photos_damaged"}
    assert "2 photos" in found.of("store_photos_damaged").what


async def test_names_for_searches_that_are_damaged(tmp_path: Path) -> None:
    url = await upgraded(f"sqlite:///{tmp_path}/store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("INSERT INTO counter (name, value) VALUES ('names_damaged', 1)")
    found = await inspect(url)
    assert found.codes == {"store_ok", "store_names_damaged"}


async def test_a_group_with_persons_and_without_members(tmp_path: Path) -> None:
    url = await upgraded(old_store(tmp_path / "store.db"))
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute(
            "INSERT INTO group_person (group_name, person_id, revision, desired, photo_sha256, changed_at)"
            " SELECT name, 'p' || name, 1, '{}', sha256, '2026-11-24 08:00:00' FROM"
            " (SELECT sha256 FROM photo LIMIT 1), (SELECT 'staff' AS name UNION SELECT 'lobby' UNION SELECT 'all')"
        )
    inspection = await inspect_store(url, [])
    assert inspection.kept == {"all": 1, "lobby": 1, "staff": 1}
    found = Findings(evaluate_groups(inspection.kept, [known_terminal("T1", groups=("lobby",))]))
    assert found.codes == {"store_group_without_members"}
    assert found.of("store_group_without_members").what == "group staff keeps 1 person and has no members"
    settings = configuration_at(free_port(), mqtt={"host": None}, store={"url": url})
    whole = await run_doctor(tmp_path, settings)
    assert "store_group_without_members" in whole.codes


async def test_presses_that_were_expired_because_the_clocks_differ_are_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    database = await Database.open(url)
    clock = Clock()
    note = request_age(clock, clock.boottime(), clock.now() - timedelta(seconds=2), 1.5).note
    reply = ReplyBuilder("open", None, "T1", clock.boottime(), clock)
    expired = [reply.reply(Outcome.EXPIRED, message=message) for message in (note, "reached the bridge too late")]
    await StoredAudit(database).add([AuditRecord.of(one, Origin(source="test")) for one in expired])
    await database.close()
    assert (await inspect_store(url, [])).differing_clocks == 1


async def test_an_older_schema_is_not_upgraded(tmp_path: Path) -> None:
    url = old_store(tmp_path / "store.db")
    before = (tmp_path / "store.db").read_bytes()
    assert (await inspect(url)).codes == {"store_old_schema"}
    assert (tmp_path / "store.db").read_bytes() == before


async def test_changes_pending_for_days(tmp_path: Path) -> None:
    url = await upgraded(old_store(tmp_path / "store.db"))
    found = await inspect(url)
    assert found.codes == {"store_ok", "store_pending_long"}
    assert "the oldest for 2 days" in found.of("store_pending_long").what
    seen = await inspect_store(url, [])
    assert seen.pending
    assert seen.oldest_pending is not None
    assert NOW - seen.oldest_pending > timedelta(days=2)


async def test_a_wrong_photo_key(tmp_path: Path) -> None:
    url = await upgraded(old_store(tmp_path / "store.db"))
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("UPDATE photo SET key_id = 'another'")
    found = await inspect(url, KEYS)
    assert found.wrong == ["store_photo_key"]
    assert KEYS[0].reveal() not in found.of("store_photo_key").what


async def test_a_database_of_another_program(tmp_path: Path) -> None:
    file = tmp_path / "home-assistant.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE states (id)")
    before = file.read_bytes()
    assert (await inspect(f"sqlite:///{file}")).wrong == ["store_foreign"]
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
async def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.db").write_bytes(content)
    assert (await inspect(f"sqlite:///{tmp_path}/store.db")).wrong == ["store_unusable"]


async def test_a_newer_schema(tmp_path: Path) -> None:
    url = await upgraded(f"sqlite:///{tmp_path}/facebridge.db")
    with closing(sqlite3.connect(tmp_path / "facebridge.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    found = await run_doctor(tmp_path, configuration_at(free_port(), mqtt={"host": None}, store={"url": url}))
    assert found.wrong == ["store_unusable"]
    assert "newer version" in found.of("store_unusable").what


async def test_a_disk_in_memory_that_is_full(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk").mounted() as disk:
        url = await upgraded(f"sqlite:///{disk.folder}/facebridge.db")
        disk.fill()
        found = await run_doctor(tmp_path, configuration_at(free_port(), mqtt={"host": None}, store={"url": url}))
        assert {"store_disk_full", "store_on_tmpfs"} <= set(found.wrong)
        assert "store_ok" not in found.codes, "it would contradict the full disk"


async def test_a_missing_folder(tmp_path: Path) -> None:
    settings = configuration_at(
        free_port(), mqtt={"host": None}, store={"url": f"sqlite:///{tmp_path}/no/facebridge.db"}
    )
    assert (await run_doctor(tmp_path, settings)).wrong == ["store_unusable"]


async def test_a_store_that_other_users_may_read(tmp_path: Path) -> None:
    await upgraded(f"sqlite:///{tmp_path}/facebridge.db")
    settings = configuration_at(free_port(), mqtt={"host": None})
    assert "store_readable" not in (await run_doctor(tmp_path, settings)).codes
    (tmp_path / "facebridge.db").chmod(0o644)
    assert "chmod 600" in (await run_doctor(tmp_path, settings)).of("store_readable").to_do


MOUNTS = r"""40 27 0:50 / /srv rw,relatime shared:1 master:2 - nfs4 server:/x rw
41 40 0:51 / /srv/fast\040disk rw - ext4 /dev/vdb rw
42 27 0:52 / /run rw - tmpfs tmpfs rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
"""


@pytest.mark.parametrize(
    ("file", "kind", "code"),
    [
        ("/var/lib/facebridge.db", "ext4", None),
        ("/srv/facebridge.db", "nfs4", "store_on_network"),
        ("/srv/fast disk/a.db", "ext4", None),
        ("/srvice/a.db", "ext4", None),
        ("/run/a.db", "tmpfs", "store_on_tmpfs"),
    ],
)
def test_the_file_system_of_a_path(file: str, kind: str, code: str | None) -> None:
    assert filesystem_of(Path(file), MOUNTS) == kind
    assert [one.code for one in evaluate_filesystem(kind)] == ([] if code is None else [code])


def test_an_unknown_file_system() -> None:
    assert filesystem_of(Path("/a"), "") is None
    assert [one.code for one in evaluate_filesystem("overlay")] == ["store_on_overlay"]


@pytest.mark.slow
async def test_postgresql(tmp_path: Path, postgresql: PostgreSQL) -> None:
    url = await postgresql.new_url()
    assert (await inspect(url)).codes == {"store_absent"}
    await upgraded(url)
    assert (await inspect(url)).codes == {"store_ok"}
    seen = await inspect_store(url, [])
    assert seen.server_time is not None
    assert abs(seen.server_time - datetime.now(UTC)) < timedelta(minutes=1)
    found = await run_doctor(tmp_path, configuration_at(free_port(), mqtt={"host": None}, store={"url": url}))
    assert found.wrong == []
    assert "secret" not in str([one.what for one in found.all])
