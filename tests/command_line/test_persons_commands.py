"""`facebridge persons …`, with and without a running bridge."""

import json
import zipfile
from pathlib import Path

import yaml

from tests.command_line.simulated import connected_terminals
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import facebridge, pictures, write
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.ports import free_port
from tests.support.waiting import until


async def test_import_delivery_export_and_purge(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, connected_terminals(bridge, "T1", "T2") as (first, second):
        faces = pictures(tmp_path, "1001", "1002")
        file = write(tmp_path, "id,name,card\n1001,Ada,0042\n1002,Grace,\n")
        dry = await facebridge(tmp_path, "persons", "import", file, "--group", "lobby", "--photos", faces, "--dry-run")
        assert dry.stdout.splitlines() == [
            "+ 1001",
            "+ 1002",
            "would be 4 new, 0 changed, 0 removed; 0 unchanged; on 2 terminals",
        ]
        done = await facebridge(tmp_path, "persons", "import", file, "--group", "lobby", "--photos", faces)
        assert (done.code, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "4 new, 0 changed, 0 removed; 0 unchanged; on 2 terminals",
            "the running bridge delivers the changes",
        ]
        await until(lambda: set(first.persons) == set(second.persons) == {"1001", "1002"})
        assert first.persons["1001"].card == "0042"

        async with mqtt_client(mosquitto.port) as client:
            await client.subscribe("facebridge/terminal/T1/state")
            state = await client.wait_for(
                "facebridge/terminal/T1/state", lambda heard: heard.json["persons"]["confirmed"] == 2
            )
            assert state.json["persons"] == {"desired": 2, "confirmed": 2, "pending": 0, "refused": 0}

        listed = await facebridge(tmp_path, "persons", "list", "--terminal", "T1", "--json")
        assert [(one["sn"], one["id"], one["delivery"]) for one in map(json.loads, listed.stdout.splitlines())] == [
            ("T1", "1001", "confirmed"),
            ("T1", "1002", "confirmed"),
        ]
        assert (await facebridge(tmp_path, "persons", "verify")).stdout == "every terminal has confirmed its persons\n"
        exported = await facebridge(tmp_path, "persons", "export", "out.zip", "--terminal", "T1")
        assert exported.stdout == "2 persons written to out.zip\n"
        assert zipfile.ZipFile(tmp_path / "out.zip").testzip() is None
        again = await facebridge(tmp_path, "persons", "import", "out.zip", "--group", "all", "--prune")
        assert again.stdout == "0 new, 0 changed, 0 removed; 4 unchanged; on 2 terminals\n"

        purged = await facebridge(tmp_path, "persons", "purge", "1001")
        assert (purged.code, purged.stdout.splitlines()[-1]) == (0, "every terminal has confirmed the removal")
        assert set(first.persons) == set(second.persons) == {"1002"}


async def test_purge_names_the_terminals_that_have_not_confirmed_it(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, connected_terminals(bridge, "T1"):
        await until(lambda: "terminal T1 connected" in bridge.log)
        purged = await facebridge(tmp_path, "persons", "purge", "1001", "--timeout", "2")
        assert purged.code == 1
        assert "no terminal has a person 1001" in purged.stdout
        assert "T2" in purged.stdout
        assert "T1" not in purged.stdout.partition("terminal ")[2]
        assert "1 of 2 terminals have not confirmed the removal yet" in purged.stderr
        verified = await facebridge(tmp_path, "persons", "verify", "--json")
        assert verified.code == 1
        (left,) = map(json.loads, verified.stdout.splitlines())
        assert (left["sn"], left["id"], left["wanted"], left["delivery"]) == ("T2", "1001", "removed", "pending")


async def test_every_fault_is_reported_with_its_row_and_nothing_is_changed(folder: Path) -> None:
    file = write(folder, "id,name,photo,weekly\n2,,nonsense,25:00-26:00\n1,Ada,,\n")
    done = await facebridge(folder, "persons", "import", file, "--terminal", "T1")
    assert done.code == 1
    assert [line.split(":")[:2] for line in done.stderr.splitlines()[:-1]] == [
        ["row 2", " name"],
        ["row 2", " weekly.default"],
        ["row 2", " photo"],
        ["row 3", " photo"],
    ]
    assert "nothing was changed" in done.stderr
    assert (await facebridge(folder, "persons", "list")).stdout.count("\n") == 1


async def test_large_removals_need_a_confirmation(folder: Path) -> None:
    ids = [str(number) for number in range(10)]
    faces = pictures(folder, *ids)
    everyone = "id,name\n" + "".join(f"{one},N\n" for one in ids)
    target = ("--terminal", "T1", "--photos", faces)
    await facebridge(folder, "persons", "import", write(folder, everyone), *target)
    fewer = write(folder, "".join(everyone.splitlines(keepends=True)[:-2]), "fewer.csv")
    refused = await facebridge(folder, "persons", "import", fewer, *target, "--prune")
    assert refused.code == 1
    assert "2 of 10 persons would be removed; nothing was changed. If this is right, give --yes" in refused.stderr
    empty = await facebridge(
        folder, "persons", "import", write(folder, "id,name\n", "empty.csv"), *target, "--prune", "--yes"
    )
    assert (empty.code, "--prune would remove everyone" in empty.stderr) == (1, True)
    one_less = write(folder, "".join(everyone.splitlines(keepends=True)[:-1]), "one_less.csv")
    assert "1 removed" in (await facebridge(folder, "persons", "import", one_less, *target, "--prune")).stdout
    done = await facebridge(folder, "persons", "import", fewer, *target, "--prune", "--yes")
    assert (done.code, "1 removed" in done.stdout) == (0, True)


async def test_copy_gives_a_terminal_the_persons_of_another(folder: Path) -> None:
    faces = pictures(folder, "1", "2")
    file = write(folder, "id,name\n1,Ada\n2,Grace\n")
    await facebridge(folder, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    done = await facebridge(folder, "persons", "copy", "--from", "T1", "--to", "T2")
    assert done.stdout.splitlines() == [
        "2 persons compared, 2 of them new or different on T2",
        "no bridge is running on this store: the changes are delivered when one starts",
    ]
    assert (
        "2 persons compared, 0 of"
        in (await facebridge(folder, "persons", "copy", "--from-group", "lobby", "--to", "T2")).stdout
    )
    nobody = await facebridge(folder, "persons", "copy", "--from", "T9", "--to", "T2")
    assert (nobody.code, "T9: no persons are stored for it" in nobody.stderr) == (1, True)


async def test_photos_are_encrypted_if_there_is_a_key(folder: Path) -> None:
    key = "A" * 43 + "="
    settings = configuration(free_port(), store={"photo_key": key})
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    faces = pictures(folder, "1")
    file = write(folder, "id,name\n1,Ada\n")
    assert (await facebridge(folder, "persons", "import", file, "--terminal", "T1", "--photos", faces)).code == 0
    face = (folder / "faces" / "1.jpg").read_bytes()
    assert face[100:200] not in b"".join(path.read_bytes() for path in folder.glob("facebridge.db*"))
    assert (await facebridge(folder, "persons", "export", "out.zip", "--terminal", "T1")).code == 0
    with zipfile.ZipFile(folder / "out.zip") as archive:
        assert archive.read("photos/1.jpg") == face
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration(free_port())))
    without = await facebridge(folder, "persons", "list")
    assert (without.code, "a key that store.photo_key does not give" in without.stderr) == (1, True)
