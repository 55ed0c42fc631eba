"""`facebridge persons …`, `log`, `backup` and `restore`, as people type them beside a bridge that runs."""

import asyncio
import json
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import facebridge, pictures, write
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.mqtt_client import mqtt_client
from tests.support.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration, and no bridge."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(free_port())))
    return tmp_path


@asynccontextmanager
async def terminals(bridge: BridgeProcess, *sns: str) -> AsyncIterator[list[SimulatedTerminal]]:
    async with asyncio.TaskGroup() as group:
        simulated = [SimulatedTerminal(bridge.terminal_url, sn) for sn in sns]
        running = [group.create_task(one.run()) for one in simulated]
        yield simulated
        for task in running:
            task.cancel()


async def test_from_a_file_to_the_terminals_and_back(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, terminals(bridge, "T1", "T2") as (first, second):
        faces = pictures(tmp_path, "1001", "1002")
        file = write(tmp_path, "id,name,card\n1001,Ada,0042\n1002,Grace,\n")
        dry = await facebridge(tmp_path, "persons", "import", file, "--group", "lobby", "--photos", faces, "--dry-run")
        assert dry.said.splitlines() == [
            "+ 1001",
            "+ 1002",
            "would be 4 new, 0 changed, 0 removed; 0 unchanged; on 2 terminals",
        ]
        done = await facebridge(tmp_path, "persons", "import", file, "--group", "lobby", "--photos", faces)
        assert (done.code, done.complained) == (0, "")
        assert done.said.splitlines() == [
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
        assert [(one["sn"], one["id"], one["delivery"]) for one in map(json.loads, listed.said.splitlines())] == [
            ("T1", "1001", "confirmed"),
            ("T1", "1002", "confirmed"),
        ]
        assert (await facebridge(tmp_path, "persons", "verify")).said == "every terminal has confirmed its persons\n"
        exported = await facebridge(tmp_path, "persons", "export", "out.zip", "--terminal", "T1")
        assert exported.said == "2 persons written to out.zip\n"
        assert zipfile.ZipFile(tmp_path / "out.zip").testzip() is None
        again = await facebridge(tmp_path, "persons", "import", "out.zip", "--group", "all", "--prune")
        assert again.said == "0 new, 0 changed, 0 removed; 4 unchanged; on 2 terminals\n"

        purged = await facebridge(tmp_path, "persons", "purge", "1001")
        assert (purged.code, purged.said.splitlines()[-1]) == (0, "every terminal has confirmed the removal")
        assert set(first.persons) == set(second.persons) == {"1002"}


async def test_purging_says_who_has_not_confirmed_it(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, terminals(bridge, "T1"):
        await until(lambda: "terminal T1 connected" in bridge.log)
        purged = await facebridge(tmp_path, "persons", "purge", "1001", "--timeout", "2")
        assert purged.code == 1
        assert "T2" in purged.said
        assert "T1" not in purged.said.partition("terminal ")[2]
        assert "1 of 2 terminals have not confirmed the removal yet" in purged.complained
        verified = await facebridge(tmp_path, "persons", "verify", "--json")
        assert verified.code == 1
        (left,) = map(json.loads, verified.said.splitlines())
        assert (left["sn"], left["id"], left["wanted"], left["delivery"]) == ("T2", "1001", "removed", "pending")


async def test_the_log_shows_who_asked_for_what(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, terminals(bridge, "T1"), mqtt_client(mosquitto.port) as client:
        await until(lambda: "terminal T1 connected" in bridge.log)
        follow = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "log", "--follow", "--json", "-n", "0", cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert follow.stdout is not None
        await client.subscribe("facebridge/terminal/+/reply")
        # Pressed again and again until the other process has begun to follow.
        lines = asyncio.get_running_loop().create_task(follow.stdout.readline())
        async with asyncio.timeout(30):
            while not lines.done():
                await client.publish("facebridge/terminal/T1/open/set", {"request_id": "r1"})
                await client.wait_for("facebridge/terminal/T1/reply")
                await asyncio.wait((lines,), timeout=0.2)
        followed = json.loads(await lines)
        follow.kill()
        await follow.wait()
        assert {name: followed[name] for name in ("command", "sn", "outcome", "source", "request_id")} == {
            "command": "open",
            "sn": "T1",
            "outcome": "ok",
            "source": "facebridge/terminal/T1/open/set",
            "request_id": "r1",
        }
        await client.publish("facebridge/terminal/T2/open/set", {"request_id": "r2"})
        await client.wait_for("facebridge/terminal/T2/reply")
        shown = await facebridge(tmp_path, "log", "--since", "1h", "--outcome", "offline")
        (line,) = shown.said.splitlines()
        assert " open " in line
        assert "T2  offline" in line
        assert "by facebridge/terminal/T2/open/set  request_id r2" in line
        nothing = await facebridge(tmp_path, "log", "--until", "2020-01-01")
        assert (nothing.code, nothing.said) == (0, "")


async def test_backup_and_restore(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    faces = pictures(tmp_path, "1001")
    file = write(tmp_path, "id,name\n1001,Ada\n")
    await facebridge(tmp_path, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    async with process.running() as bridge:
        async with terminals(bridge, "T1") as (first,):
            await until(lambda: "1001" in first.persons)
        assert (await facebridge(tmp_path, "backup", "b.db")).code == 0
        assert (await facebridge(tmp_path, "persons", "purge", "1001", "--timeout", "0")).code == 1
        refused = await facebridge(tmp_path, "restore", "b.db", "--yes")
        assert (refused.code, "stop it first" in refused.complained) == (1, True)
    restored = await facebridge(tmp_path, "restore", "b.db")
    assert (restored.code, "it sends all persons to the terminals again" in restored.said) == (0, True)
    async with process.running() as bridge, terminals(bridge, "T1") as (first,):
        await until(lambda: "1001" in first.persons)


async def test_every_fault_is_told_with_its_row_and_nothing_is_changed(folder: Path) -> None:
    file = write(folder, "id,name,photo,weekly\n2,,nonsense,25:00-26:00\n1,Ada,,\n")
    done = await facebridge(folder, "persons", "import", file, "--terminal", "T1")
    assert done.code == 1
    assert [line.split(":")[:2] for line in done.complained.splitlines()[:-1]] == [
        ["row 2", " name"],
        ["row 2", " weekly.default"],
        ["row 2", " photo"],
        ["row 3", " photo"],
    ]
    assert "nothing was changed" in done.complained
    assert (await facebridge(folder, "persons", "list")).said.count("\n") == 1


async def test_pruning_asks_before_it_removes_much(folder: Path) -> None:
    ids = [str(number) for number in range(10)]
    faces = pictures(folder, *ids)
    everyone = "id,name\n" + "".join(f"{one},N\n" for one in ids)
    target = ("--terminal", "T1", "--photos", faces)
    await facebridge(folder, "persons", "import", write(folder, everyone), *target)
    fewer = write(folder, "".join(everyone.splitlines(keepends=True)[:-2]), "fewer.csv")
    refused = await facebridge(folder, "persons", "import", fewer, *target, "--prune")
    assert refused.code == 1
    assert "2 of 10 persons would be removed; nothing was changed. If this is right, give --yes" in refused.complained
    empty = await facebridge(
        folder, "persons", "import", write(folder, "id,name\n", "empty.csv"), *target, "--prune", "--yes"
    )
    assert (empty.code, "--prune would remove everyone" in empty.complained) == (1, True)
    one_less = write(folder, "".join(everyone.splitlines(keepends=True)[:-1]), "one_less.csv")
    assert "1 removed" in (await facebridge(folder, "persons", "import", one_less, *target, "--prune")).said
    done = await facebridge(folder, "persons", "import", fewer, *target, "--prune", "--yes")
    assert (done.code, "1 removed" in done.said) == (0, True)


def test_on_a_terminal_there_are_bars_and_questions(folder: Path) -> None:
    ids = [str(number) for number in range(5)]
    faces = pictures(folder, *ids)
    everyone = write(folder, "id,name\n" + "".join(f"{one},N\n" for one in ids))
    one = write(folder, "id,name\n0,N\n", "one.csv")
    target = ("--terminal", "T1", "--photos", faces)

    def typed(*words: str, answer: str = "") -> tuple[int, str]:
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", *words], cwd=folder, stdin=follower, stdout=follower, stderr=follower,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "120"},
        )  # fmt: skip
        os.close(follower)
        shown = b""
        with os.fdopen(leader, "r+b", buffering=0) as terminal:
            while True:
                try:
                    part = terminal.read(1000)
                except OSError:
                    break
                shown += part
                if answer and b"Continue?" in shown:
                    terminal.write(answer.encode())
                    answer = ""
                if not part:
                    break
        return process.wait(), shown.decode()

    code, shown = typed("persons", "import", everyone, *target)
    assert code == 0
    assert "importing" in shown
    assert "/s" in shown
    code, shown = typed("persons", "import", one, *target, "--prune", answer="n\n")
    assert (code, "4 of 5 persons would be removed. Continue?" in shown) == (1, True)
    code, shown = typed("persons", "import", one, *target, "--prune", answer="y\n")
    assert (code, "4 removed" in shown) == (0, True)
    assert typed("backup", "b.db")[0] == 0
    code, shown = typed("restore", "b.db", answer="n\n")
    assert (code, "The content of the store will be replaced by b.db. Continue?" in shown) == (1, True)
    assert not list(folder.glob("*.before-restore"))


async def test_a_new_terminal_gets_the_roster_of_the_one_it_takes_the_place_of(folder: Path) -> None:
    faces = pictures(folder, "1", "2")
    file = write(folder, "id,name\n1,Ada\n2,Grace\n")
    await facebridge(folder, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    done = await facebridge(folder, "persons", "copy", "--from", "T1", "--to", "T2")
    assert done.said.splitlines() == [
        "2 persons compared, 2 of them new or different on T2",
        "no bridge is running on this store: the changes are delivered when one starts",
    ]
    assert (
        "2 persons compared, 0 of"
        in (await facebridge(folder, "persons", "copy", "--from-group", "lobby", "--to", "T2")).said
    )
    nobody = await facebridge(folder, "persons", "copy", "--from", "T9", "--to", "T2")
    assert (nobody.code, "T9: no persons are stored for it" in nobody.complained) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("persons", "import", "missing.csv", "--terminal", "T1"), 2, "does not exist"),
        (("persons", "import", "persons.csv"), 2, "give one of --terminal SN and --group NAME"),
        (("persons", "import", "persons.csv", "--terminal", "T1", "--group", "lobby"), 2, "give one of"),
        (("persons", "import", "persons.csv", "--terminal", "T9"), 1, "terminal T9 is not known; known are T1, T2"),
        (("persons", "import", "persons.csv", "--group", "g"), 1, "no terminal is in a group g; groups are all, lobby"),
        (("persons", "import", "config.yaml", "--terminal", "T1"), 1, "config.yaml: must be a .csv"),
        (("persons", "export", "out.txt", "--terminal", "T1"), 1, "out.txt: must be a .csv"),
        (("persons", "list", "--terminal", "a b"), 2, "an SN has 1 to 64"),
        (("persons", "purge", "a b"), 2, "an id has 1 to 64"),
        (("persons", "copy", "--to", "T1"), 2, "give one of --from SN and --from-group NAME"),
        (("log", "--since", "yesterday"), 2, "must be a time like"),
        (("backup", "nowhere/b.db"), 1, "there is no store at"),
        (("restore", "config.yaml", "--yes"), 1, "is no backup of a store"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else "",
)
async def test_wrong_usage_is_told(folder: Path, words: tuple[str, ...], code: int, complaint: str) -> None:
    write(folder, "id,name\n")
    done = await facebridge(folder, *words)
    assert complaint in done.complained
    assert done.code == code
    assert "Traceback" not in done.complained


async def test_photos_are_encrypted_where_there_is_a_key(folder: Path) -> None:
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
    assert (without.code, "a key that store.photo_key does not give" in without.complained) == (1, True)
