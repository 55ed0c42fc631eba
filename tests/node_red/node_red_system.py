"""A Node-RED that runs one of the example flows, with a broker, a bridge and its terminals."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.node_red.flow_file import FlowFile
from tests.support.killable_bridge import KillableBridge, fixed_port_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.node_red import NodeRed, Shown

SNS = ["T1", "T2"]


class NodeRedSystem:
    """The running parts; the terminals are offline until a test runs them."""

    def __init__(
        self, node_red: NodeRed, flow: FlowFile, broker: Mosquitto, bridge: KillableBridge, client: MqttClient
    ) -> None:
        self.node_red = node_red
        self.flow = flow
        self.broker = broker
        self.bridge = bridge
        self.client = client

    def terminal(self, sn: str = "T1") -> SimulatedTerminal:
        """Return a terminal; it connects when it runs."""
        return SimulatedTerminal(
            self.bridge.terminal_url, sn, options=ConnectionOptions(first_retry_seconds=0.05, max_retry_seconds=0.3)
        )

    @asynccontextmanager
    async def terminal_connected(self, sn: str = "T1") -> AsyncIterator[SimulatedTerminal]:
        """Connect a terminal, and wait until the bridge publishes that it is online."""
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

    async def wait_text(self, *names: str, number: int = 1, after: int = 0) -> str:
        """Wait for the `number`-th shown text of these template nodes; return it.

        Args:
            names: English names of template nodes.
            number: how many texts of these nodes to wait for.
            after: ignore the first `after` texts of all nodes.
        """
        assert set(names) <= set(self.flow.template_nodes()), names

        def matches(shown: Shown) -> bool:
            # By identity: an earlier message can have the same text.
            fresh = any(shown is one for one in self.node_red.shown[after:])
            return fresh and any(self.flow.is_text_of(name, shown.text) for name in names)

        return (await self.node_red.wait_shown(matches, f"a text of {names}", number=number)).text

    def shown_texts(self, name: str) -> list[str]:
        """Return all texts of a template node that the flow has shown so far."""
        return [shown.text for shown in self.node_red.shown if self.flow.is_text_of(name, shown.text)]

    async def start_broker(self) -> None:
        """Start the stopped broker again, and wait until Node-RED is connected to it."""
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
    """Import and run a flow; at the end Node-RED must have logged no warning.

    Args:
        node_red: the Node-RED that runs the flow.
        language: the language of the flow file.
        folder: for the files of the bridge and the broker.
        name: the name of the flow file.
        expected: parts of warnings that the test provokes.
        forged: True if the test publishes in the bridge's place, and messages that do not follow the schemas.
        settings: values for the tab's settings.
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
    warnings = [line for line in node_red.warnings(log_before) if not any(known in line for known in expected)]
    assert not warnings, "\n".join(warnings)
