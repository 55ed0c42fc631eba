"""The bridge and its store at start: one bridge on a store, the encryption of photos, removal of expired persons."""

from pathlib import Path

import yaml

from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import audit_records, facebridge, pictures, python_process, write
from tests.support.mosquitto import Mosquitto

KEYS = ["A" * 43 + "=", "B" * 43 + "="]

RUN_WITHOUT_WAITING_FOR_THE_LOCK = """
from functools import partial
import bridge.app
bridge.app.instance_lock = partial(bridge.app.instance_lock, wait_seconds=0)
from bridge.cli.main import main
main(["run"])
"""
"""`facebridge run`, without the six seconds that it waits for a bridge that is stopping (tests/store tests them)."""


def photo_is_readable_on_disk(folder: Path, person_id: str) -> bool:
    part = (folder / "faces" / f"{person_id}.jpg").read_bytes()[100:200]
    return any(part in path.read_bytes() for path in folder.glob("facebridge.db*"))


async def test_a_second_bridge_on_the_same_store_does_not_start(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port)
    async with BridgeProcess(tmp_path, settings).running() as bridge:
        second = await python_process(tmp_path, "-c", RUN_WITHOUT_WAITING_FOR_THE_LOCK)
        assert (second.code, second.stderr.count("a bridge runs on this store already")) == (1, 1)
        assert "Traceback" not in second.stderr
        assert await bridge.stop() == 0
        async with BridgeProcess(tmp_path, settings).running():
            pass


async def test_photos_are_encrypted_with_a_new_key_when_the_bridge_starts(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    file = write(tmp_path, "id,name\n1,Ada\n")
    faces = pictures(tmp_path, "1")
    await facebridge(tmp_path, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    assert photo_is_readable_on_disk(tmp_path, "1")
    for keys in (KEYS[:1], [KEYS[1], KEYS[0]]):
        async with BridgeProcess(tmp_path, {**settings, "store": {"photo_key": keys}}).running() as bridge:
            await bridge.wait_log("1 photos were encrypted")
        assert not photo_is_readable_on_disk(tmp_path, "1")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "store": {"photo_key": KEYS[0]}}))
    without = await python_process(tmp_path, "-m", "bridge", "run")
    assert (without.code, "a key that store.photo_key does not give" in without.stderr) == (1, True)
    assert not any(key in without.stderr for key in KEYS)


async def test_an_expired_person_is_removed_when_the_bridge_starts(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port, persons={"remove_expired": 7})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    file = write(tmp_path, "id,name,valid_until\n1,Ada,2020-01-01\n2,Grace,2999-01-01\n")
    faces = pictures(tmp_path, "1", "2")
    await facebridge(tmp_path, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    async with BridgeProcess(tmp_path, settings).running():
        shown: list[str] = []

        async def is_removed() -> bool:
            shown[:] = (await facebridge(tmp_path, "persons", "list", "--json")).stdout.splitlines()
            return '"wanted":"removed"' in shown[0]

        while not await is_removed():
            pass
        assert ['"id":"1"' in shown[0], '"id":"2"' in shown[1], '"wanted":"present"' in shown[1]] == [True] * 3
        (record,) = await audit_records(tmp_path, "--person", "1", "--command", "removePerson")
        assert record["source"] == "persons.remove_expired"
