"""The store in Home Assistant's backups, copied and restored as the Supervisor does."""

import shutil
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

import pytest
import yaml

from bridge.home_assistant_app.backup_hooks import AT_REST, BACKUP
from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.home_assistant_app.app_process import AppProcess, SupervisorStandIn, mqtt_service
from tests.home_assistant_app.test_app_process import options, terminal
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "ha_addon" / "config.yaml").read_text())
PHOTO = b64encode(sample_photo(1, (64, 80))).decode()
RESTORED = "this app was restored from a backup"


class AppUnderTest:
    """A broker, a Supervisor and an app with one terminal, whose backups are made as Home Assistant makes them."""

    def __init__(self, folder: Path, broker: Mosquitto, app: AppProcess) -> None:
        self.folder = folder
        self.broker = broker
        self.app = app

    async def enrol(self, person_id: str) -> None:
        """Add a person, which the terminal receives when it connects."""
        async with mqtt_client(self.broker.port, "facebridge/terminal/T1/reply") as client:
            person = {"id": person_id, "name": "Ada", "photo": PHOTO}
            await client.publish("facebridge/terminal/T1/person/set", {"persons": [person], "request_id": person_id})
            await client.wait_for(
                "facebridge/terminal/T1/reply",
                lambda one: (one.json["request_id"], one.json["outcome"]) == (person_id, "accepted"),
            )

    async def back_up(self, *, running: bool) -> Path:
        """Copy `/data` as the Supervisor does; for a running app with the commands before and after."""
        if running:
            assert await self.app.command(_command("backup_pre")) == (0, "")
        backup = self.folder / "backup"
        shutil.copytree(self.app.data, backup, ignore=_excluded)
        if running:
            assert await self.app.command(_command("backup_post")) == (0, "")
        return backup

    def restore(self, backup: Path) -> None:
        """Replace `/data` by a backup, as the Supervisor does."""
        shutil.rmtree(self.app.data)
        shutil.copytree(backup, self.app.data)

    def terminal(self) -> SimulatedTerminal:
        return terminal(self.app, "T1", self.password)

    @property
    def password(self) -> str:
        secrets = yaml.safe_load((self.app.data / "secrets.yaml").read_text())
        return str(secrets["terminal_password"])


def _command(key: str) -> str:
    return str(CONFIG[key].split()[-1])


def _excluded(folder: str, names: list[str]) -> set[str]:
    """Return the files that the Supervisor leaves out; its patterns see another path of `/data`."""
    where = PurePosixPath("/data/apps/data/5d2c_facebridge")
    return {name for name in names if any((where / name).match(pattern) for pattern in CONFIG["backup_exclude"])}


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[AppUnderTest]:
    async with _app_under_test(tmp_path) as system:
        yield system


@asynccontextmanager
async def _app_under_test(folder: Path) -> AsyncIterator[AppUnderTest]:
    async with Mosquitto(folder) as broker, SupervisorStandIn().running() as supervisor:
        supervisor.service = mqtt_service(broker.port)
        known = options(known_terminals=[{"sn": "T1"}])
        async with AppProcess(folder / "data", supervisor.url, known).running() as app:
            await app.wait_log("ready: ")
            yield AppUnderTest(folder, broker, app)


async def test_a_backup_of_the_running_app_restores_every_person(system: AppUnderTest) -> None:
    await system.enrol("1001")
    password = system.password
    backup = await system.back_up(running=True)
    assert not (system.app.data / BACKUP).exists(), "photos are not kept twice"
    assert not (backup / "facebridge.db").exists()
    assert (backup / BACKUP).exists()
    await system.enrol("1002")
    await system.app.stop()
    system.restore(backup)
    await system.app.start()
    await system.app.wait_log("ready: ")
    assert RESTORED in system.app.log
    assert system.password == password
    async with system.terminal().running() as door:
        await door.wait_until(lambda: "1001" in door.persons)
        assert set(door.persons) == {"1001"}
    await system.app.stop()
    # The next start finds an ordinary store.
    await system.app.start()
    await system.app.wait_log("ready: ")
    assert RESTORED not in system.app.log


async def test_a_backup_of_the_stopped_app_restores_every_person(system: AppUnderTest) -> None:
    await system.enrol("1001")
    await system.app.stop()
    backup = await system.back_up(running=False)
    assert not (backup / "facebridge.db").exists()
    system.restore(backup)
    await system.app.start()
    await system.app.wait_log("ready: ")
    assert RESTORED in system.app.log
    assert not (system.app.data / AT_REST).exists()
    async with system.terminal().running() as door:
        await door.wait_until(lambda: "1001" in door.persons)


async def test_leftovers_of_a_backup_do_not_replace_the_store(system: AppUnderTest) -> None:
    """The app was killed between the commands before and after: the store is newer than the copy."""
    await system.enrol("1001")
    assert await system.app.command("backup") == (0, "")
    await system.enrol("1002")
    (system.app.data / f".{BACKUP}.cut0ff").mkdir()
    await system.app.stop(9)
    await system.app.start()
    await system.app.wait_log("ready: ")
    assert RESTORED not in system.app.log
    assert not list(system.app.data.glob(f"*{BACKUP}*"))
    async with system.terminal().running() as door:
        await door.wait_until(lambda: set(door.persons) == {"1001", "1002"})


async def test_an_unusable_backup_is_reported_and_kept(system: AppUnderTest) -> None:
    await system.enrol("1001")
    backup = await system.back_up(running=True)
    await system.app.stop()
    (backup / BACKUP).write_bytes(b"no database" * 100)
    system.restore(backup)
    await system.app.start()
    assert await system.app.ended() == 1
    assert "the restored backup cannot be used" in system.app.log
    assert (system.app.data / BACKUP).exists()
    assert not (system.app.data / "facebridge.db").exists()


async def test_an_app_that_waits_for_a_broker_can_be_backed_up(tmp_path: Path) -> None:
    async with (
        SupervisorStandIn().running() as supervisor,
        AppProcess(tmp_path / "data", supervisor.url, options()).running() as app,
    ):
        await app.wait_log("no MQTT service yet")
        assert await app.command("backup") == (0, "")
        assert await app.command("after-backup") == (0, "")
