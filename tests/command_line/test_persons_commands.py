"""`facebridge persons …`, with and without a running bridge."""

import json
import zipfile
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection, update

from bridge.model.person_entry import MembershipJob
from bridge.store.database import Database
from bridge.store.group_queries import add_membership_job, change_memberships
from bridge.store.tables import PERSON_ENTRY
from tests.command_line.simulated import connected_terminals
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import audit_records, facebridge, pictures, write
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
            "would be 2 new, 0 changed, 0 removed; 0 unchanged; in group lobby",
            "would be 4 new, 0 changed, 0 removed; 0 unchanged; on 2 terminals",
        ]
        done = await facebridge(tmp_path, "persons", "import", file, "--group", "lobby", "--photos", faces)
        assert (done.code, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "2 new, 0 changed, 0 removed; 0 unchanged; in group lobby",
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
        again = await facebridge(tmp_path, "persons", "import", "out.zip", "--group", "lobby", "--prune")
        assert again.stdout.splitlines() == [
            "0 new, 0 changed, 0 removed; 2 unchanged; in group lobby",
            "0 new, 0 changed, 0 removed; 4 unchanged; on 2 terminals",
        ]

        purged = await facebridge(tmp_path, "persons", "purge", "1001")
        assert (purged.code, purged.stdout.splitlines()[-1]) == (0, "every terminal has confirmed the removal")
        assert "1001 is removed from group lobby\n" in purged.stdout
        assert set(first.persons) == set(second.persons) == {"1002"}


async def test_purge_names_the_terminals_that_have_not_confirmed_it(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, connected_terminals(bridge, "T1"):
        await until(lambda: "terminal T1 (Front door) connected" in bridge.log)
        unknown = await facebridge(tmp_path, "persons", "purge", "1001")
        assert (unknown.code, unknown.stdout) == (1, "")
        assert "no terminal and no group has a person 1001, so nothing was changed: check the id." in unknown.stderr
        assert (await facebridge(tmp_path, "persons", "verify")).code == 0
        purged = await facebridge(tmp_path, "persons", "purge", "1001", "--timeout", "2", "--everywhere")
        assert purged.code == 1
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


async def test_a_missing_picture_is_named_with_the_folder(folder: Path) -> None:
    file = write(folder, "id,name\n1,Ada\n2,Grace\n")
    done = await facebridge(folder, "persons", "import", file, "--terminal", "T1", "--photos", pictures(folder, "2"))
    assert done.code == 1
    assert "not found in faces: 1.jpg (nor .jpeg, .png, .webp or .heic)\n" in done.stderr
    assert "row 2: photo: is missing" in done.stderr


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
    nobody = await facebridge(folder, "persons", "copy", "--from", "T9", "--to", "T2")
    assert (nobody.code, "T9: no persons are stored for it" in nobody.stderr) == (1, True)


async def test_copy_lets_a_group_keep_the_persons_of_a_terminal(folder: Path) -> None:
    faces = pictures(folder, "1", "2")
    file = write(folder, "id,name\n1,Ada\n2,Grace\n")
    await facebridge(folder, "persons", "import", file, "--terminal", "T1", "--photos", faces)
    early = await facebridge(folder, "persons", "export", "out.zip", "--group", "lobby")
    assert (early.code, "persons copy --from SN --to-group lobby" in early.stderr) == (1, True)
    assert not (folder / "out.zip").exists()
    none = await facebridge(folder, "persons", "copy", "--from-group", "lobby", "--to", "T2")
    assert (none.code, "group lobby keeps no persons" in none.stderr) == (1, True)
    done = await facebridge(folder, "persons", "copy", "--from", "T1", "--to-group", "lobby")
    assert done.stdout.splitlines()[0] == (
        "2 persons compared, 2 of them new or different in group lobby or on its 2 members"
    )
    exported = await facebridge(folder, "persons", "export", "out.zip", "--group", "lobby")
    assert exported.stdout == "2 persons written to out.zip\n"
    both = await facebridge(folder, "persons", "copy", "--from", "T1", "--to", "T2", "--to-group", "lobby")
    assert (both.code, "give one of --to SN and --to-group NAME" in both.stderr) == (2, True)


async def test_a_group_is_listed_with_its_members_and_also_without_any(folder: Path) -> None:
    faces = pictures(folder, "1", "2")
    file = write(folder, "id,name\n1,Ada\n2,Grace\n")
    await facebridge(folder, "persons", "import", file, "--group", "lobby", "--photos", faces)
    listed = await facebridge(folder, "persons", "list", "--group", "lobby")
    lines = listed.stdout.splitlines()
    assert lines[0] == "group lobby keeps 2 persons; its members: T1 (Front door), T2"
    assert lines[1].split()[:3] == ["id", "name", "wanted"]
    assert lines[2].startswith("1   Ada    present  confirmed on 0 of 2; pending on T1, T2")
    access = (await facebridge(folder, "persons", "list", "--terminal", "T1")).stdout.splitlines()
    assert [line.split()[-1] for line in access] == ["access", "lobby", "lobby"]

    settings = configuration(free_port())
    settings["terminals"]["known"] = {"T1": {"groups": ["other"]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    listed = await facebridge(folder, "persons", "list", "--group", "lobby")
    assert listed.stdout.splitlines()[0] == "group lobby keeps 2 persons and has no members"
    (one, _) = map(
        json.loads, (await facebridge(folder, "persons", "list", "--group", "lobby", "--json")).stdout.splitlines()
    )
    assert (one["group"], one["id"], one["name"], one["wanted"], one["members"]) == ("lobby", "1", "Ada", "present", {})
    unknown = await facebridge(folder, "persons", "list", "--group", "lobbi")
    assert unknown.code == 1
    assert "group lobbi has no members and keeps no persons; groups are all, lobby, other" in unknown.stderr


async def test_verify_shows_changes_of_memberships(folder: Path) -> None:
    faces = pictures(folder, "1", "2")
    file = write(folder, "id,name\n1,Ada\n2,Grace\n")
    await facebridge(folder, "persons", "import", file, "--group", "lobby", "--photos", faces)
    url = f"sqlite:///{folder}/facebridge.db"

    def confirm(connection: Connection) -> None:
        connection.execute(update(PERSON_ENTRY).values(delivery="confirmed"))
        for sn, joined in {"T1": ["lobby", "all"], "T2": ["all"]}.items():
            change_memberships(connection, sn, [], joined)

    def start_join(connection: Connection) -> None:
        change_memberships(connection, "T2", [], ["lobby"])
        job = MembershipJob(id=1_000_000, sn="T2", left=frozenset(), joined=frozenset({"lobby"}))
        add_membership_job(connection, job)

    database = await Database.open(url)
    await database.write(confirm)
    waiting = await facebridge(folder, "persons", "verify")
    assert (waiting.code, waiting.stdout) == (
        1,
        "T2 will be joining lobby when the bridge starts again: its groups have changed\n",
    )
    await database.write(start_join)
    running = await facebridge(folder, "persons", "verify", "--group", "lobby")
    assert (running.code, running.stdout) == (1, "T2 is joining lobby: 2 persons to go\n")
    shown = await facebridge(folder, "persons", "verify", "--terminal", "T2", "--json")
    assert json.loads(shown.stdout) == {"sn": "T2", "left": [], "joined": ["lobby"], "persons_to_go": 2}
    other = await facebridge(folder, "persons", "verify", "--terminal", "T1")
    assert (other.code, other.stdout) == (0, "every terminal has confirmed its persons\n")
    await database.close()


async def test_the_log_shows_joins_and_leaves(mosquitto: Mosquitto, tmp_path: Path) -> None:
    settings = configuration(mosquitto.port)
    settings["terminals"]["known"] = {"T1": {"groups": ["lobby"]}, "T2": {}}
    process = BridgeProcess(tmp_path, settings)
    file = write(tmp_path, "id,name\n1,Ada\n")
    faces = pictures(tmp_path, "1")
    async with process.running():
        await facebridge(tmp_path, "persons", "import", file, "--group", "lobby", "--photos", faces)

    async def run_with(groups: dict[str, list[str]], outcome: str) -> dict[str, Any]:
        """Run a bridge with these groups until T2 has answered, and return the last record about T2."""
        settings["terminals"]["known"] = {sn: {"groups": names} for sn, names in groups.items()}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        async with process.running() as bridge, connected_terminals(bridge, "T2") as (terminal,):
            await until(lambda: bool(terminal.persons) == (outcome == "joined"))
            records = await audit_records(
                tmp_path, "--terminal", "T2", complete=lambda found: f"{outcome} group lobby" in str(found)
            )
        return records[-1]

    joined = await run_with({"T1": ["lobby"], "T2": ["lobby"]}, "joined")
    assert (joined["command"], joined["person_id"], joined["outcome"]) == ("setPerson", "1", "ok")
    assert joined["message"].startswith("joined group lobby: ")
    assert joined["source"] == "membership of group lobby"
    left = await run_with({"T1": ["lobby"], "T2": []}, "left")
    assert (left["command"], left["person_id"], left["outcome"]) == ("removePerson", "1", "ok")
    assert left["message"].startswith("left group lobby: ")


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
