"""Keeps the configuration and the store of this version, for the upgrade tests of later ones.

Run it on the tag of a release, and commit the new folder: `.venv/bin/python -m tests.release.keep_release`.
"""

import asyncio
import base64
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.release.released_bridge import KEPT, ReleasedBridge
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client

_ROOT = Path(__file__).parents[2]
_KNOWN = """\
  known:
    FRONT:
      name: Front door
      area: Lobby
      groups: [lobby]
"""


def _person(person_id: str, name: str, **more: Any) -> dict[str, Any]:
    photo = base64.b64encode(sample_photo(int(person_id), (48, 64))).decode()
    return {"id": person_id, "name": name, "photo": photo, **more}


async def _change(client: MqttClient, topic: str, payload: dict[str, Any], sns: Sequence[str], outcome: str) -> None:
    """Publish a change, and wait for its outcome on each terminal."""
    request_id = f"{topic} {payload.get('id', payload.get('sn'))}"
    await client.publish(f"facebridge/{topic}", payload | {"request_id": request_id})
    for sn in sns:
        await client.wait_for(
            f"facebridge/terminal/{sn}/reply",
            lambda one: (one.json["request_id"], one.json["outcome"]) == (request_id, outcome),
        )


async def _fill(bridge: ReleasedBridge, client: MqttClient) -> None:
    both, back = ("FRONT", "BACK"), ("BACK",)
    await client.publish("facebridge/bridge/admit/set", {"sn": "BACK", "area": "Yard", "groups": ["lobby"]})
    await client.wait_for("facebridge/bridge/reply", lambda one: one.json["outcome"] == "ok")
    async with SimulatedTerminal(bridge.terminal_url, "FRONT").running() as front:
        await front.wait_connected()
        async with SimulatedTerminal(bridge.terminal_url, "BACK").running() as terminal:
            await terminal.wait_connected()
            ada = _person("1001", "Ada", card="12345678", weekly={"default": "08:00-18:00"})
            await _change(client, "group/lobby/person/set", ada, both, "ok")
            await _change(client, "terminal/FRONT/person/set", _person("1002", "Grace"), ("FRONT",), "ok")
            await _change(client, "terminal/BACK/person/set", _person("1004", "Edsger"), back, "ok")
        await client.wait_for("facebridge/terminal/BACK/availability", lambda one: one.payload == b"offline")
        await _change(client, "terminal/BACK/person/set", _person("1003", "Linus"), back, "accepted")
        await _change(client, "terminal/BACK/person/remove", {"id": "1004"}, back, "accepted")


async def keep(folder: Path) -> None:
    """Write the configuration and the store of a small building into a folder.

    FRONT is in the configuration and connected, BACK is approved and was connected at first. Both are in the group
    `lobby`, which keeps Ada. Grace is on FRONT only. BACK still misses Linus and still holds Edsger, who was removed.
    """
    configuration = (_ROOT / "config.yaml").read_text()
    assert configuration.count("  known: {}\n") == 1
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(configuration.replace("  known: {}\n", _KNOWN))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "config.yaml").write_text((folder / "config.yaml").read_text())
        (work / "broker").mkdir()
        async with Mosquitto(work / "broker") as broker, mqtt_client(broker.port, "#") as client:
            bridge = ReleasedBridge(work, broker.port)
            async with bridge.running():
                await _fill(bridge, client)
        with closing(sqlite3.connect(work / "facebridge.db")) as store:
            (folder / "store.sql").write_text("\n".join(store.iterdump()) + "\n")


if __name__ == "__main__":
    asyncio.run(keep(KEPT / __version__))
    sys.stdout.write(f"{KEPT / __version__}\n")
