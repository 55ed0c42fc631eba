"""A house that uses Node-RED: a real one, a real broker, a bridge and its terminals."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.simulator.terminal import SimulatedTerminal
from tests.node_red.flow_file import FlowFile
from tests.support.killable_bridge import KillableBridge, fixed_port_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.node_red import NodeRed, Shown

SNS = ["T1", "T2"]


class NodeRedSystem:
    """What the tests look at; the terminals are away until they run."""

    def __init__(
        self, node_red: NodeRed, flow: FlowFile, broker: Mosquitto, bridge: KillableBridge, client: MqttClient
    ) -> None:
        self.node_red = node_red
        self.flow = flow
        self.broker = broker
        self.bridge = bridge
        self.client = client

    def terminal(self, sn: str = "T1") -> SimulatedTerminal:
        """Return a terminal."""
        return SimulatedTerminal(self.bridge.terminal_url, sn, first_retry=0.05, last_retry=0.3)

    @asynccontextmanager
    async def terminal_connected(self, sn: str = "T1") -> AsyncIterator[SimulatedTerminal]:
        """Let a terminal in, and wait until the bridge says so."""
        terminal = self.terminal(sn)
        topic = f"facebridge/terminal/{sn}/availability"
        before = len(self.client.heard)
        async with terminal.running():
            await self.client.wait_for(
                topic, lambda one: one.payload == b"online" and self.client.heard.index(one) >= before
            )
            yield terminal

    async def press(self, name: str) -> None:
        """Press the button of an inject node."""
        await self.node_red.press(self.flow.node(name)["id"])

    async def told(self, *names: str, number: int = 1, after: int = 0) -> str:
        """Wait until the flow has told what one of these template nodes says; return it."""
        assert set(names) <= set(self.flow.texts()), names

        def matches(shown: Shown) -> bool:
            fresh = shown in self.node_red.shown[after:]
            return fresh and any(self.flow.says(name, shown.text) for name in names)

        return (await self.node_red.wait_shown(matches, f"what {names} say", number=number)).text

    def shown_texts(self, name: str) -> list[str]:
        """Return what the flow has told with a template node so far."""
        return [shown.text for shown in self.node_red.shown if self.flow.says(name, shown.text)]

    async def start_broker(self) -> None:
        """Start a stopped one again, and wait until Node-RED is connected to it."""
        before = len(self.node_red.log)
        await self.broker.start()
        await self.node_red.wait_logged("Connected to broker", before)


SystemFactory = Callable[..., AbstractAsyncContextManager[NodeRedSystem]]
"""`node_red_system` without Node-RED, language and folder."""


@asynccontextmanager
async def node_red_system(
    node_red: NodeRed,
    language: str,
    folder: Path,
    name: str,
    *,
    expected: tuple[str, ...] = (),
    forged: bool = False,
    **settings: Any,
) -> AsyncIterator[NodeRedSystem]:
    """Import a flow and run it; at the end Node-RED may have nothing to complain of.

    Args:
        node_red: where it runs.
        language: of the file.
        folder: of the bridge and the broker.
        name: of the file.
        expected: complaints that the test is about.
        forged: the test speaks in the bridge's place, and not as the contract has it.
        settings: what the user sets in the tab.
    """
    (folder / "broker").mkdir()
    log_before = len(node_red.log)
    async with Mosquitto(folder / "broker", persistent=True) as broker:
        store = f"sqlite:///{folder / 'store.db'}"
        bridge = KillableBridge(
            folder, fixed_port_configuration(broker.port, SNS, store_url=store, commands={"deadline": 2})
        )
        flow = FlowFile(name, language, broker.port, **settings)
        base_topic = "not/facebridge" if forged else "facebridge"
        async with (
            bridge.running(),
            mqtt_client(broker.port, "#", base_topic=base_topic) as client,
            node_red.watched(),
        ):
            await client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")
            await node_red.deploy(flow.nodes)
            system = NodeRedSystem(node_red, flow, broker, bridge, client)
            await node_red.wait_logged("Connected to broker", log_before)
            try:
                yield system
            finally:
                await node_red.deploy([])
        assert "Traceback" not in bridge.full_log
    complaints = [line for line in node_red.complaints(log_before) if not any(known in line for known in expected)]
    assert not complaints, "\n".join(complaints)
