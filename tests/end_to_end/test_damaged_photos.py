"""Promise 2: a photo that is damaged on the disk is not sent, and shown until it is repaired."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.bridge_system import bridge_system
from tests.support.mqtt_client import Heard


def damage_photos(store: Path) -> None:
    """Change a byte in the middle of each photo, as a failing disk would."""
    with closing(sqlite3.connect(store, timeout=10)) as connection, connection:
        for sha256, jpeg in connection.execute("SELECT sha256, jpeg FROM photo").fetchall():
            middle = len(jpeg) // 2
            damaged = jpeg[:middle] + bytes([jpeg[middle] ^ 1]) + jpeg[middle + 1 :]
            connection.execute("UPDATE photo SET jpeg = ? WHERE sha256 = ?", (damaged, sha256))


def warns(info: Heard) -> bool:
    return any("1 photo in the store is damaged" in warning for warning in info.json["warnings"])


async def test_a_damaged_photo_is_not_sent_and_is_repaired_by_setting_it_again(tmp_path: Path) -> None:
    async with bridge_system(tmp_path) as system:
        await system.set_person("p1")
        async with system.terminal_connected() as terminal:
            await system.wait_reply("set p1", "ok")
        await system.bridge.stop()
        await asyncio.to_thread(damage_photos, tmp_path / "store.db")
        system.client.heard.clear()
        await system.bridge.start()
        await system.wait_online()
        sent = len(terminal.requests)
        async with system.terminal_connected():
            await system.set_person("p1", "rename", name="Ada")
            refused = await system.wait_reply("rename", "refused")
            assert refused.json["message"] == "photo: missing or damaged in the store; set the person's picture again"
            assert len(terminal.requests) == sent
            await system.client.wait_for("facebridge/bridge/info", warns)
            assert (await system.list_persons("list"))["p1"]["delivery"] == "refused"
        await system.restart_bridge()
        await system.client.wait_for("facebridge/bridge/info", warns)
        async with system.terminal_connected():
            await system.set_person("p1", "again")
            await system.wait_reply("again", "ok")
            await system.client.wait_for("facebridge/bridge/info", lambda info: not warns(info))
        assert len(terminal.requests) == sent + 1
