"""`facebridge log`, `backup` and `restore`; questions on a terminal; wrong usage of the commands on the store."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line.simulated import connected_terminals
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import audit_records, command_environment, facebridge, pictures, write
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.waiting import until


async def test_the_log_shows_each_request_and_its_source(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, connected_terminals(bridge, "T1"), mqtt_client(mosquitto.port) as client:
        await until(lambda: "terminal T1 (Front door) connected" in bridge.log)
        follow = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "log", "--follow", "--json", "-n", "0", cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE, env=command_environment(),
        )  # fmt: skip
        assert follow.stdout is not None
        await client.subscribe("facebridge/terminal/+/reply")
        # Pressed repeatedly until the other process follows the log.
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
        await audit_records(tmp_path, "--outcome", "offline")
        shown = await facebridge(tmp_path, "log", "--since", "1h", "--outcome", "offline")
        (line,) = shown.stdout.splitlines()
        assert " open " in line
        assert "T2  offline" in line
        assert "by facebridge/terminal/T2/open/set  request_id r2" in line
        nothing = await facebridge(tmp_path, "log", "--until", "2020-01-01")
        assert (nothing.code, nothing.stdout) == (0, "")


async def test_backup_and_restore(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    faces = pictures(tmp_path, "1001")
    file = write(tmp_path, "id,name\n1001,Ada\n")
    await facebridge(tmp_path, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    async with process.running() as bridge:
        async with connected_terminals(bridge, "T1") as (first,):
            await until(lambda: "1001" in first.persons)
        assert (await facebridge(tmp_path, "backup", "b.db")).code == 0
        assert (await facebridge(tmp_path, "persons", "purge", "1001", "--timeout", "0")).code == 1
        refused = await facebridge(tmp_path, "restore", "b.db", "--yes")
        assert (refused.code, "stop it first" in refused.stderr) == (1, True)
    # The person was removed after the backup, and the command cannot ask whether they may come back.
    unasked = await facebridge(tmp_path, "restore", "b.db")
    assert (unasked.code, "give --yes" in unasked.stderr, "  1001 on T1\n" in unasked.stdout) == (1, True, True)
    restored = await facebridge(tmp_path, "restore", "b.db", "--yes")
    assert (restored.code, "it sends all persons to the terminals again" in restored.stdout) == (0, True)
    async with process.running() as bridge, connected_terminals(bridge, "T1") as (first,):
        await until(lambda: "1001" in first.persons)


def test_on_a_terminal_bars_and_questions_are_shown(folder: Path) -> None:
    ids = [str(number) for number in range(5)]
    faces = pictures(folder, *ids)
    everyone = write(folder, "id,name\n" + "".join(f"{one},N\n" for one in ids))
    one = write(folder, "id,name\n0,N\n", "one.csv")
    target = ("--terminal", "T1", "--photos", faces)

    def typed(*words: str, answer: str = "") -> tuple[int, str]:
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", *words], cwd=folder, stdin=follower, stdout=follower, stderr=follower,
            env={**command_environment(), "TERM": "xterm", "COLUMNS": "120"},
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


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("persons", "import", "missing.csv", "--terminal", "T1"), 2, "does not exist"),
        (("persons", "import", "persons.csv"), 2, "give one of --terminal SN and --group NAME"),
        (("persons", "import", "persons.csv", "--terminal", "T1", "--group", "lobby"), 2, "give one of"),
        (("persons", "import", "persons.csv", "--terminal", "T9"), 1, "terminal T9 is not known; known are T1, T2"),
        (
            ("persons", "import", "persons.csv", "--group", "g"),
            1,
            "group g has no members and keeps no persons; groups are all, lobby",
        ),
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
async def test_wrong_usage_is_reported(folder: Path, words: tuple[str, ...], code: int, complaint: str) -> None:
    write(folder, "id,name\n")
    done = await facebridge(folder, *words)
    assert complaint in done.stderr
    assert done.code == code
    assert "Traceback" not in done.stderr
