"""A Home Assistant with a broker, a bridge and its terminals."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.blueprints import Domain, used
from tests.support.bridge_process import configuration
from tests.support.home_assistant import HomeAssistant, HomeAssistantApi
from tests.support.killable_bridge import KillableBridge
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.ports import free_port

Protocol = Literal["5", "3.1.1"]

_IGNORED_WARNINGS = (
    "[homeassistant.bootstrap] Skipping pip installation",
    "[haffmpeg.",
    "[homeassistant.components.camera.img_util]",
    "[aiohttp_fast_zlib]",
    "is logging too frequently",
)
"""Parts of warnings that are not about Facebridge: missing optional programs, and devices that change quickly."""

_IGNORED_ISSUE_DOMAINS = ("homeassistant", "http")
"""Domains of repair issues about the way Home Assistant is installed here."""


@dataclass(frozen=True)
class Installation:
    """A Home Assistant with a broker. It starts slowly, so many tests share it, each with a bridge of its own.

    Attributes:
        home_assistant: the Home Assistant.
        broker: the broker to which it is connected.
        protocol: the version of MQTT between the two.
    """

    home_assistant: HomeAssistant
    broker: Mosquitto
    protocol: Protocol


class HomeAssistantSystem:
    """An installation with the bridge of one test, and connections to both."""

    def __init__(self, installation: Installation, bridge: KillableBridge, client: MqttClient) -> None:
        self.home_assistant = installation.home_assistant
        self.broker = installation.broker
        self.bridge = bridge
        self.client = client
        self._connection = AsyncExitStack()

    def terminal(self, sn: str) -> SimulatedTerminal:
        """Return a terminal; it connects when it runs."""
        return SimulatedTerminal(
            self.bridge.terminal_url, sn, options=ConnectionOptions(first_retry_seconds=0.05, max_retry_seconds=0.3)
        )

    async def connect(self) -> None:
        """Connect to Home Assistant's API."""
        self.api: HomeAssistantApi = await self._connection.enter_async_context(self.home_assistant.api())

    async def disconnect(self) -> None:
        """Disconnect from Home Assistant's API."""
        await self._connection.aclose()

    async def restart_home_assistant(self) -> None:
        """Restart Home Assistant in the regular way."""
        await self.disconnect()
        await self.home_assistant.restart()
        await self.connect()

    async def wait_devices(self, *names: str) -> None:
        """Wait until Home Assistant has devices of exactly these names."""

        async def known() -> bool:
            return sorted(str(device["name"]) for device in (await self.api.devices()).values()) == sorted(names)

        await self.api.wait_until(known, f"the devices are {names}")

    async def wait_reply(self, entity_id: str, **expected: object) -> dict[str, Any]:
        """Wait until an event entity has these attributes; return all its attributes."""
        attributes: dict[str, Any] = {}

        async def has_attributes() -> bool:
            attributes.clear()
            attributes.update((await self.api.states()).get(entity_id, {}).get("attributes", {}))
            return all(attributes.get(key) == value for key, value in expected.items())

        await self.api.wait_until(has_attributes, f"{entity_id} has {expected}")
        return attributes

    async def entity_ids(self, sn: str) -> Mapping[str, str]:
        """Return the entity ids of a terminal, by the last part of their unique ids."""
        start = f"facebridge_{sn}_"
        return {
            entity["unique_id"].removeprefix(start): entity_id
            for entity_id, entity in (await self.api.entities()).items()
            if entity["unique_id"].startswith(start)
        }

    async def device_id(self, sn: str) -> str:
        """Wait until Home Assistant has a device of a terminal; return the device's id."""
        devices: dict[str, Any] = {}

        async def known() -> bool:
            devices.update(await self.api.devices())
            return f"facebridge_{sn}" in devices

        await self.api.wait_until(known, f"{sn} has a device")
        device_id: str = devices[f"facebridge_{sn}"]["id"]
        return device_id

    @asynccontextmanager
    async def helper(self, domain: str, name: str, **options: object) -> AsyncIterator[str]:
        """Create a helper as a user does on its page, yield its entity id, and delete it at the end."""
        made = await self.api.call(f"{domain}/create", name=name, **options)
        try:
            yield f"{domain}.{made['id']}"
        finally:
            await self.api.call(f"{domain}/delete", **{f"{domain}_id": made["id"]})

    def blueprint(self, domain: Domain, name: str, **inputs: object) -> AbstractAsyncContextManager[str]:
        """Use a blueprint: `async with system.blueprint("automation", "open_at_doorbell", …)`; see `used`."""
        return used(self.home_assistant, self.api, domain, name, inputs)

    async def admit(self, sn: str, **details: Any) -> None:
        """Approve a terminal over MQTT, or change its name, area or groups."""
        request_id = json.dumps(details)[:128]
        await self.client.publish("facebridge/bridge/admit/set", {"sn": sn, "request_id": request_id, **details})
        reply = await self.client.wait_for(
            "facebridge/bridge/reply", lambda heard: heard.json["request_id"] == request_id
        )
        assert reply.json["outcome"] == "ok", reply


SystemFactory = Callable[..., AbstractAsyncContextManager[HomeAssistantSystem]]
"""`home_assistant_system` without the installation and the folder."""


@asynccontextmanager
async def home_assistant_system(
    installation: Installation,
    folder: Path,
    known: Mapping[str, Mapping[str, Any]],
    *,
    expected: tuple[str, ...] = (),
    **sections: Any,
) -> AsyncIterator[HomeAssistantSystem]:
    """Run a bridge; at the end Home Assistant must have logged no warning and have no repair issue about it.

    Args:
        installation: Home Assistant and its broker.
        folder: for the bridge's files.
        known: the bridge's terminals, as in `terminals.known`.
        expected: parts of warnings that the test provokes.
        sections: more sections of the bridge's configuration.
    """
    log_before = len(installation.home_assistant.log)
    settings = configuration(
        installation.broker.port,
        mqtt={"protocol": installation.protocol},
        terminals={"port": free_port(), "known": {sn: dict(details) for sn, details in known.items()}},
        **sections,
    )
    bridge = KillableBridge(folder, settings)
    async with mqtt_client(installation.broker.port, "#") as client, _deleted_afterwards(installation, client):
        async with bridge.running():
            system = HomeAssistantSystem(installation, bridge, client)
            await system.connect()
            try:
                yield system
                issues = [issue for issue in await system.api.issues() if issue["domain"] not in _IGNORED_ISSUE_DOMAINS]
                assert not issues, issues
            except BaseException as error:
                # A warning of Home Assistant often names the cause.
                error.add_note("\n".join(_unexpected_warnings(installation.home_assistant, log_before, expected)))
                raise
            finally:
                await system.disconnect()
        assert "Traceback" not in bridge.full_log
    warnings = _unexpected_warnings(installation.home_assistant, log_before, expected)
    assert not warnings, "\n".join(warnings)


def _unexpected_warnings(home_assistant: HomeAssistant, since: int, expected: tuple[str, ...]) -> list[str]:
    allowed = (*_IGNORED_WARNINGS, *expected)
    return [line for line in home_assistant.warnings(since) if not any(known in line for known in allowed)]


@asynccontextmanager
async def _deleted_afterwards(installation: Installation, client: MqttClient) -> AsyncIterator[None]:
    """At the end, delete all retained messages from the broker and all devices from Home Assistant."""
    try:
        yield
    finally:
        last = {heard.topic: heard.payload for heard in client.heard if heard.retain}
        retained = [topic for topic, payload in last.items() if payload]
        # Discovery first: Home Assistant would warn about an empty state of an entity that it still has.
        for topic in sorted(retained, key=lambda topic: not topic.startswith("homeassistant/")):
            await client.publish(topic, b"", retain=True)
        async with installation.home_assistant.api() as api:

            async def no_devices() -> bool:
                return not await api.devices()

            await api.wait_until(no_devices, "no device is left")
