"""The bridge with its own role on the shipped broker: all functions work, and a broker restart loses nothing."""

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.access.shipped_broker import (
    ADMIN,
    ENROLLER,
    HOME_ASSISTANT,
    OPERATOR,
    WATCHER,
    BrokerUser,
    DynamicSecurityBroker,
    ShippedBroker,
    bridge_environment,
    connected_user,
    connected_users,
    shipped_broker,
)
from tests.support.bridge_process import BridgeProcess
from tests.support.waiting import until

T1 = "facebridge/terminal/T1"
PHOTO = b64encode(sample_photo(0, (64, 80))).decode()
MANY = 2000


@asynccontextmanager
async def bridge_on(
    broker: ShippedBroker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BridgeProcess]:
    folder.mkdir()
    bridge = BridgeProcess(folder, {})
    for name, value in bridge_environment(broker, folder).items():
        monkeypatch.setenv(name, value)
    async with bridge.running():
        yield bridge


@pytest.mark.parametrize(
    "kind", [pytest.param(ShippedBroker, id="acl_file"), pytest.param(DynamicSecurityBroker, id="dynsec")]
)
async def test_every_role_can_do_its_work(
    kind: type[ShippedBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        shipped_broker(kind, tmp_path / "broker") as broker,
        connected_users(broker, [HOME_ASSISTANT, ADMIN, OPERATOR, ENROLLER, WATCHER]) as users,
    ):
        home_assistant, admin, operator, enroller, watcher = users.values()
        await home_assistant.subscribe("homeassistant/#", f"{T1}/reply")
        await operator.subscribe(f"{T1}/reply", "facebridge-replies/reception/#")
        await enroller.subscribe("facebridge/terminal/+/reply")
        await admin.subscribe("facebridge/bridge/reply", f"{T1}/reply")
        await watcher.subscribe("facebridge/terminal/+/availability", f"{T1}/state", "facebridge/bridge/availability")
        async with (
            bridge_on(broker, tmp_path / "bridge", monkeypatch) as bridge,
            SimulatedTerminal(bridge.terminal_url, "T1").running(),
        ):
            await until(lambda: any(one.payload == b"online" and "T1" in one.topic for one in watcher.received))
            await until(lambda: any("bridge/av" in one.topic and one.payload == b"online" for one in watcher.received))

            await operator.publish(
                f"{T1}/open/set", {"request_id": "o1"}, ResponseTopic="facebridge-replies/reception/1"
            )
            await operator.wait_for(f"{T1}/reply", request_id="o1", outcome="ok")
            await operator.wait_for("facebridge-replies/reception/1", request_id="o1", outcome="ok")
            assert not await operator.may_publish(f"{T1}/person/set", {"id": "1", "name": "Ada", "photo": PHOTO})
            assert not await watcher.may_publish(f"{T1}/open/set", {"request_id": "w1"})

            person = {"id": "1", "name": "Ada", "photo": PHOTO}
            await enroller.publish(f"{T1}/person/set", {"persons": [person], "request_id": "p1"})
            await enroller.wait_for(f"{T1}/reply", request_id="p1", outcome="ok")
            assert not await enroller.may_publish(f"{T1}/open/set", {"request_id": "e1"})

            await admin.publish("facebridge/bridge/admit/set", {"sn": "T2", "request_id": "a1"})
            await admin.wait_for("facebridge/bridge/reply", request_id="a1", outcome="ok")
            await admin.publish("facebridge/bridge/forget/set", {"sn": "T2", "request_id": "a2"})
            await admin.wait_for("facebridge/bridge/reply", request_id="a2", outcome="ok")

            config = "homeassistant/device/facebridge_T1/config"
            await home_assistant.wait_for(config)
            home_assistant.received.clear()
            await home_assistant.publish("homeassistant/status", b"online")
            await home_assistant.wait_for(config)
            await home_assistant.publish(f"{T1}/open/set", b"PRESS")
            await home_assistant.wait_for(f"{T1}/reply", command="open", outcome="ok", request_id=None)

            # The broker refuses a foreign Response Topic to the bridge, without disconnecting it.
            await operator.publish(f"{T1}/open/set", {"request_id": "o2"}, ResponseTopic="lights/hall/set")
            await operator.wait_for(f"{T1}/reply", request_id="o2", outcome="ok")
            await admin.publish(f"{T1}/reboot/set", {"request_id": "a3"})
            await admin.wait_for(f"{T1}/reply", request_id="a3", outcome="ok")
        assert "refuses the subscription" not in bridge.log
        assert broker.log.count("as facebridge-live-") == 1
        assert broker.log.count("as facebridge-intake-") == 1


@pytest.mark.parametrize("end", ["in order", "killed"])
@pytest.mark.timeout(180)
async def test_a_broker_restart_loses_no_queued_person_change(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shipped_broker(ShippedBroker, tmp_path / "broker") as broker:
        async with bridge_on(broker, tmp_path / "bridge", monkeypatch) as bridge:
            pass
        async with connected_user(broker, ENROLLER) as enroller:
            await asyncio.gather(
                *(
                    enroller.publish(f"{T1}/person/set", {"id": str(number), "name": "Ada", "photo": PHOTO})
                    for number in range(MANY)
                )
            )
        if end == "killed":
            # Mosquitto keeps what its last autosave has written; it creates the file at the first one.
            saved = broker.folder / "data" / "mosquitto.db"
            ends = [b'{"id":"%d","name"' % number for number in (0, MANY - 1)]
            await until(lambda: saved.exists() and all(end in saved.read_bytes() for end in ends))
            await broker.kill()
        else:
            await broker.stop()
        await broker.start()
        async with connected_user(broker, WATCHER, f"{T1}/state") as watcher, bridge.running():
            await until(lambda: watcher.received and watcher.received[-1].json["persons"]["desired"] == MANY)


async def test_a_user_who_knows_the_client_ids_takes_no_session_of_the_bridge_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shipped_broker(ShippedBroker, tmp_path / "broker") as broker:
        async with bridge_on(broker, tmp_path / "bridge", monkeypatch) as bridge:
            await until(lambda: "as facebridge-intake-" in broker.log and "as facebridge-live-" in broker.log)
            own_ids = set(re.findall(r" as (facebridge-\w+-[0-9a-f]{16}) \(", broker.log))
            assert len(own_ids) == 2
            for client_id in own_ids:
                watcher = BrokerUser(broker, WATCHER, client_id=client_id)
                await watcher.connect()
                await watcher.subscribe("facebridge/bridge/availability")
                assert (await watcher.wait_for("facebridge/bridge/availability")).payload == b"online"
                await watcher.disconnect()
            assert "is not connected" not in bridge.log
        assert broker.log.count(" as facebridge-intake-") == broker.log.count(" as facebridge-live-") == 1
