"""Promise 2 while pictures take long to decode: they hold up no change for another terminal."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.support.bridge_system import PHOTO, BridgeSystem, bridge_system

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
