"""What the bridge does with its store when it starts: one bridge, its keys, persons whose time is over."""

from pathlib import Path

import yaml

from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import facebridge, pictures, write
from tests.support.mosquitto import free_port

KEYS = ["A" * 43 + "=", "B" * 43 + "="]


def face_on_the_disk(folder: Path, person_id: str) -> bool:
    face = (folder / "faces" / f"{person_id}.jpg").read_bytes()[100:200]
    return any(face in path.read_bytes() for path in folder.glob("facebridge.db*"))


async def test_there_is_one_bridge_on_a_store(tmp_path: Path) -> None:
    settings = configuration(free_port())
    async with BridgeProcess(tmp_path, settings).running() as bridge:
        second = await facebridge(tmp_path, "run")
        assert (second.code, second.complained.count("a bridge runs on this store already")) == (1, 1)
        assert "Traceback" not in second.complained
        assert await bridge.stop() == 0
        async with BridgeProcess(tmp_path, settings).running():
            pass


async def test_photos_come_under_a_key_and_then_under_another(tmp_path: Path) -> None:
    settings = configuration(free_port())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    file = write(tmp_path, "id,name\n1,Ada\n")
    faces = pictures(tmp_path, "1")
    await facebridge(tmp_path, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    assert face_on_the_disk(tmp_path, "1")
    for keys in (KEYS[:1], [KEYS[1], KEYS[0]]):
        async with BridgeProcess(tmp_path, {**settings, "store": {"photo_key": keys}}).running() as bridge:
            await bridge.wait_log("1 photos were encrypted")
        assert not face_on_the_disk(tmp_path, "1")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "store": {"photo_key": KEYS[0]}}))
    without = await facebridge(tmp_path, "run")
    assert (without.code, "a key that store.photo_key does not give" in without.complained) == (1, True)
    assert not any(key in without.complained for key in KEYS)


async def test_who_is_over_is_removed_when_the_bridge_starts(tmp_path: Path) -> None:
    settings = configuration(free_port(), persons={"remove_expired": 7})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    file = write(tmp_path, "id,name,valid_until\n1,Ada,2020-01-01\n2,Grace,2999-01-01\n")
    faces = pictures(tmp_path, "1", "2")
    await facebridge(tmp_path, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    async with BridgeProcess(tmp_path, settings).running():
        shown: list[str] = []

        async def is_removed() -> bool:
            shown[:] = (await facebridge(tmp_path, "persons", "list", "--json")).said.splitlines()
            return len(shown) == 1

        while not await is_removed():
            pass
        assert '"id":"2"' in shown[0]
        log = await facebridge(tmp_path, "log", "--person", "1", "--command", "removePerson")
        assert "by persons.remove_expired" in log.said
