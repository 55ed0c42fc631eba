"""A house that uses Home Assistant: a real one, a real broker, a bridge and its terminals."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bridge.simulator.terminal import SimulatedTerminal
from tests.support.blueprints import Domain, used
from tests.support.bridge_process import configuration
from tests.support.home_assistant import HomeAssistant, HomeAssistantApi
from tests.support.killable_bridge import KillableBridge, unused_fixed_port
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client

Protocol = Literal["5", "3.1.1"]

_NOT_ABOUT_US = (
    "[homeassistant.bootstrap] Skipping pip installation",
    "[haffmpeg.",
    "[homeassistant.components.camera.img_util]",
    "[aiohttp_fast_zlib]",
    "is logging too frequently",
)
"""What it complains of: programs that nobody needs here are missing, and tests have devices come and go fast."""

_OWN_ISSUES = ("homeassistant", "http")
"""Domains of repairs that are about how it is installed here."""


@dataclass(frozen=True)
class Installation:
    """Home Assistant with a broker, which take long to make; the bridges of many tests come and go.

    Attributes:
        home_assistant: it.
        broker: the one it is connected to.
        protocol: that it speaks with it.
    """

    home_assistant: HomeAssistant
    broker: Mosquitto
    protocol: Protocol


class HomeAssistantSystem:
    """What the tests look at."""

    def __init__(self, installation: Installation, bridge: KillableBridge, client: MqttClient) -> None:
        self.home_assistant = installation.home_assistant
        self.broker = installation.broker
        self.bridge = bridge
        self.client = client
        self._connection = AsyncExitStack()

    def terminal(self, sn: str) -> SimulatedTerminal:
        """Return a terminal, which is away until it runs."""
        return SimulatedTerminal(self.bridge.terminal_url, sn, first_retry=0.05, last_retry=0.3)

    async def connect(self) -> None:
        """Connect to Home Assistant's API."""
        self.api: HomeAssistantApi = await self._connection.enter_async_context(self.home_assistant.api())

    async def disconnect(self) -> None:
        """Leave its API."""
        await self._connection.aclose()

    async def restart_home_assistant(self) -> None:
        """End it in order and start it again."""
        await self.disconnect()
        await self.home_assistant.restart()
        await self.connect()

    async def wait_devices(self, *names: str) -> None:
        """Wait until it has devices of these names and no other."""

        async def known() -> bool:
            return sorted(str(device["name"]) for device in (await self.api.devices()).values()) == sorted(names)

        await self.api.wait_until(known, f"there are {names}")

    async def until_told(self, entity_id: str, **wanted: object) -> dict[str, Any]:
        """Wait until an event entity shows a reply with these values, and return all it shows."""
        attributes: dict[str, Any] = {}

        async def told() -> bool:
            attributes.clear()
            attributes.update((await self.api.states()).get(entity_id, {}).get("attributes", {}))
            return all(attributes.get(key) == value for key, value in wanted.items())

        await self.api.wait_until(told, f"{entity_id} tells {wanted}")
        return attributes

    async def entity_ids(self, sn: str) -> Mapping[str, str]:
        """Return the entity ids of a terminal, by what each is in its unique id."""
        start = f"facebridge_{sn}_"
        return {
            entity["unique_id"].removeprefix(start): entity_id
            for entity_id, entity in (await self.api.entities()).items()
            if entity["unique_id"].startswith(start)
        }

    async def device_id(self, sn: str) -> str:
        """Return the id of a terminal's device in Home Assistant, once it has it."""
        devices: dict[str, Any] = {}

        async def known() -> bool:
            devices.update(await self.api.devices())
            return f"facebridge_{sn}" in devices

        await self.api.wait_until(known, f"there is a device of {sn}")
        device_id: str = devices[f"facebridge_{sn}"]["id"]
        return device_id

    @asynccontextmanager
    async def helper(self, domain: str, name: str, **options: object) -> AsyncIterator[str]:
        """Make a helper, as a user does on its page, until the end; yields its entity id."""
        made = await self.api.call(f"{domain}/create", name=name, **options)
        try:
            yield f"{domain}.{made['id']}"
        finally:
            await self.api.call(f"{domain}/delete", **{f"{domain}_id": made["id"]})

    def blueprint(self, domain: Domain, name: str, **inputs: object) -> AbstractAsyncContextManager[str]:
        """Use a blueprint until the end: `async with system.blueprint("automation", "open_at_doorbell", …)`."""
        return used(self.home_assistant, self.api, domain, name, inputs)

    async def admit(self, sn: str, **details: Any) -> None:
        """Approve a terminal over MQTT, or change what is known of it."""
        request_id = json.dumps(details)[:128]
        await self.client.publish("facebridge/bridge/admit/set", {"sn": sn, "request_id": request_id, **details})
        reply = await self.client.wait_for(
            "facebridge/bridge/reply", lambda heard: heard.json["request_id"] == request_id
        )
        assert reply.json["outcome"] == "ok", reply


SystemFactory = Callable[..., AbstractAsyncContextManager[HomeAssistantSystem]]
"""`home_assistant_system` without the house and the folder."""


@asynccontextmanager
async def home_assistant_system(
    installation: Installation,
    folder: Path,
    known: Mapping[str, Mapping[str, Any]],
    *,
    expected: tuple[str, ...] = (),
    **sections: Any,
) -> AsyncIterator[HomeAssistantSystem]:
    """Run a bridge in the house; at the end Home Assistant may have nothing to say against it.

    Args:
        installation: the house.
        folder: of the bridge.
        known: its terminals, as `terminals.known` has them.
        expected: complaints of Home Assistant that the test is about.
        sections: of the bridge's configuration.
    """
    log_before = len(installation.home_assistant.log)
    settings = configuration(
        installation.broker.port,
        mqtt={"protocol": installation.protocol},
        terminals={"port": unused_fixed_port(), "known": {sn: dict(details) for sn, details in known.items()}},
        **sections,
    )
    bridge = KillableBridge(folder, settings)
    async with mqtt_client(installation.broker.port, "#") as client, _cleared(installation, client):
        async with bridge.running():
            system = HomeAssistantSystem(installation, bridge, client)
            await system.connect()
            try:
                yield system
                issues = [issue for issue in await system.api.issues() if issue["domain"] not in _OWN_ISSUES]
                assert not issues, issues
            except BaseException as error:
                # What Home Assistant says of it is often why.
                error.add_note("\n".join(_complaints(installation.home_assistant, log_before, expected)))
                raise
            finally:
                await system.disconnect()
        assert "Traceback" not in bridge.full_log
    complaints = _complaints(installation.home_assistant, log_before, expected)
    assert not complaints, "\n".join(complaints)


def _complaints(home_assistant: HomeAssistant, since: int, expected: tuple[str, ...]) -> list[str]:
    allowed = (*_NOT_ABOUT_US, *expected)
    return [line for line in home_assistant.complaints(since) if not any(known in line for known in allowed)]


@asynccontextmanager
async def _cleared(installation: Installation, client: MqttClient) -> AsyncIterator[None]:
    """Leave nothing on the broker, and nothing in Home Assistant, for the next test."""
    try:
        yield
    finally:
        last = {heard.topic: heard.payload for heard in client.heard if heard.retain}
        retained = [topic for topic, payload in last.items() if payload]
        # Discovery first: what has no entity any more can't complain of an empty state.
        for topic in sorted(retained, key=lambda topic: not topic.startswith("homeassistant/")):
            await client.publish(topic, b"", retain=True)
        async with installation.home_assistant.api() as api:

            async def empty() -> bool:
                return not await api.devices()

            await api.wait_until(empty, "all is forgotten")
