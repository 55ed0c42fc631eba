"""Promise 2 while pictures take long to decode: they hold up no change for another terminal."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.support.bridge_system import PHOTO, BridgeSystem, bridge_system
from tests.support.facebridge import facebridge_process
from tests.support.one_way_link import OneWayLink

ADMIT = "facebridge/bridge/admit/set"


def slow_picture() -> str:
    """Return a small file, as base64, that takes a second of processor time."""
    buffer = BytesIO()
    Image.new("RGB", (8192, 6144), (200, 30, 40)).save(buffer, "JPEG", progressive=True)
    return b64encode(buffer.getvalue()).decode()


SLOW = slow_picture()


def person(person_id: str, request_id: str, photo: str) -> dict[str, object]:
    return {"persons": [{"id": person_id, "name": f"Name of {person_id}", "photo": photo}], "request_id": request_id}


async def admit(system: BridgeSystem, sn: str) -> None:
    await system.client.publish(ADMIT, {"sn": sn})
    await system.client.wait_for("facebridge/bridge/reply", lambda one: one.json["sn"] == sn)


def accepted(system: BridgeSystem) -> list[str]:
    """Return the request ids of the accepted changes of all terminals, in the order of the replies."""
    replies = [one.json for one in system.client.heard if one.topic.endswith("/reply")]
    return [reply["request_id"] for reply in replies if reply["outcome"] == "accepted"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_slow_picture_holds_up_only_its_terminal(tmp_path: Path, protocol: str) -> None:
    async with bridge_system(tmp_path, protocol=protocol) as system:
        await admit(system, "T2")
        quick = person("p2", "quick", PHOTO)
        await system.client.publish("facebridge/terminal/T1/person/set", person("p1", "slow", SLOW))
        await system.remove_person("p1", "behind the slow one")
        await system.client.publish("facebridge/terminal/T2/person/set", quick)
        await system.client.publish("facebridge/terminal/T2/person/remove", {"id": "p3", "request_id": "removal"})
        await system.client.publish(ADMIT, {"sn": "T3", "request_id": "admission"})
        await system.client.wait_for("facebridge/bridge/reply", lambda one: one.json["request_id"] == "admission")
        await system.wait_reply("behind the slow one", "accepted")
        assert accepted(system) == ["quick", "removal", "slow", "behind the slow one"]


@pytest.mark.parametrize("is_killed", [True, False], ids=["bridge killed", "link broken"])
async def test_a_change_stored_before_an_earlier_slow_one_is_not_applied_again(tmp_path: Path, is_killed: bool) -> None:
    """Its acknowledgement waits for the slow one, so the broker delivers both again."""
    async with (
        OneWayLink().running() as link,
        bridge_system(tmp_path, link=link) as system,
        system.terminal_connected() as terminal,
    ):
        await admit(system, "T2")
        await system.set_person("p0")
        await system.wait_reply("set p0", "ok")
        persons = [{"id": f"s{number}", "name": "Ada", "photo": SLOW} for number in range(12)]
        slow = {"persons": persons, "request_id": "slow"}
        await system.client.publish("facebridge/terminal/T2/person/set", slow)
        await system.set_person("p0", "rename", name="Ada")
        await system.wait_reply("rename", "ok")
        (tmp_path / "newer.json").write_text('[{"id": "p0", "name": "Eve"}]')
        words = ("persons", "import", "newer.json", "--terminal", "T1", "-c", "config.yaml")
        imported = await facebridge_process(tmp_path, *words)
        assert imported.code == 0, imported.stderr
        assert "slow" not in accepted(system)
        system.client.heard.clear()
        if is_killed:
            await system.bridge.kill()
        link.reset()
        if is_killed:
            await system.bridge.start()
        await system.wait_reply("rename", "ok")
        await system.remove_person("p1", "last")
        await system.wait_reply("last", "ok")
        assert {person.name for person in terminal.persons.values()} == {"Eve"}
        assert [person["name"] for person in (await system.list_persons("all")).values()] == ["Eve"]
        assert "slow" not in accepted(system), "the test must be quicker than the slow pictures"
