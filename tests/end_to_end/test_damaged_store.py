"""Promise 2 with a damaged page in the store: only the changes that need this page are refused."""

import asyncio
from pathlib import Path

from tests.support.bridge_system import PHOTO, REPLY, TOPIC, BridgeSystem, bridge_system
from tests.support.damage import damage_pages_with
from tests.support.mqtt_client import Heard

PERSONS = 300
"""Persons enough for several pages of the table."""

BEFORE, DAMAGED, BEHIND, LAST = 9000, 150, 9001, 9002
"""Numbers of persons. The ids of the others are on another page than that of `DAMAGED`, in each table."""


async def set_persons(system: BridgeSystem, request_id: str, *numbers: int, name: str = "Name") -> None:
    persons = [{"id": f"p{number}", "name": f"{name} of p{number}", "photo": PHOTO} for number in numbers]
    await system.client.publish(f"{TOPIC}/person/set", {"persons": persons, "request_id": request_id})


def is_damage_warning(info: Heard) -> bool:
    return any("the store is damaged" in warning for warning in info.json["warnings"])


async def test_a_damaged_page_refuses_its_changes_and_lets_others_pass(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with bridge_system(tmp_path, store=store) as system:
        await set_persons(system, "all", *range(PERSONS))
        await system.client.wait_for_all(REPLY, PERSONS)
        await system.bridge.stop()
        await asyncio.to_thread(damage_pages_with, store, f'"Name of p{DAMAGED}"')
        system.client.heard.clear()
        # The bridge finds them together in its session, so that they share a transaction.
        await set_persons(system, "before", BEFORE)
        await set_persons(system, "damaged", DAMAGED, name="New name")
        await set_persons(system, "behind", BEHIND)
        await system.bridge.start()
        refused = await system.wait_reply("damaged", "invalid")
        assert "the store is damaged" in refused.json["message"]
        await system.wait_reply("before", "accepted")
        await system.wait_reply("behind", "accepted")
        await system.client.wait_for("facebridge/bridge/info", is_damage_warning)
        assert [system.outcomes(name) for name in ("before", "damaged", "behind")] == [
            ["accepted"],
            ["invalid"],
            ["accepted"],
        ]
        # The broker has nothing left to deliver.
        await system.restart_bridge()
        await set_persons(system, "last", LAST)
        await system.wait_reply("last", "accepted")
        assert system.outcomes("damaged") == []
