"""Keeps the discovery payloads retained, and sends them again when Home Assistant starts."""

import asyncio
from collections.abc import Sequence
from random import Random

import orjson

from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.events import TerminalAdmitted, TerminalForgotten
from bridge.model.terminal import Terminal
from bridge.mqtt.client.connection import Message
from bridge.mqtt.discovery.bridge_device import bridge_device
from bridge.mqtt.discovery.entities import Installation
from bridge.mqtt.discovery.names import EntityNames
from bridge.mqtt.discovery.terminal_device import terminal_device
from bridge.mqtt.retained import RetainedTopics

_HOME_ASSISTANT = "homeassistant"
"""The level of Home Assistant's own birth message unless it was set to another."""

_BIRTH = b"online"

_LONGEST_DELAY = 1.0
"""Seconds at most before the answer to a birth message, so that not every device of a house answers at once."""

_SHORTEST_INTERVAL = 10.0
"""Seconds between two answers: anyone may publish a birth message, and ten thousand payloads are a lot of answer."""

_AT_ONCE = 50
"""Payloads built before other work has its turn: some milliseconds."""


class Discovery:
    """Wants a discovery payload for the bridge and every known terminal."""

    def __init__(
        self,
        installation: Installation,
        prefix: str,
        retained: RetainedTopics,
        registry: TerminalRegistry,
        events: EventBus,
        random: Random,
    ) -> None:
        """Build the publisher.

        Args:
            installation: of the bridge.
            prefix: `homeassistant.prefix`.
            retained: keeps the payloads.
            registry: of the terminals.
            events: tell of terminals that come, change and go.
            random: spreads them.
        """
        self._installation = installation
        self._prefix = prefix
        self._retained = retained
        self._registry = registry
        self._random = random
        self._names = EntityNames()
        self._born = asyncio.Event()
        events.subscribe(TerminalAdmitted, self._admitted, name="Home Assistant discovery")
        events.subscribe(TerminalForgotten, self._forgotten, name="Home Assistant discovery")

    @property
    def birth_topics(self) -> Sequence[str]:
        """Where Home Assistant says that it has started."""
        return list(dict.fromkeys((f"{self._prefix}/status", f"{_HOME_ASSISTANT}/status")))

    def topic(self, sn: str | None = None) -> str:
        """Return where the payload of a terminal, or of the bridge itself, is retained."""
        return f"{self._prefix}/device/{self._installation.object_id(sn)}/config"

    async def start(self) -> None:
        """Want everything, the bridge's own device first."""
        self._retained.want(self.topic(), orjson.dumps(bridge_device(self._installation)))
        for position, known in enumerate(self._registry):
            self._want(known.terminal)
            if position % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def received(self, message: Message) -> None:
        """Take a message of a birth topic."""
        if message.payload == _BIRTH:
            self._born.set()

    async def run(self) -> None:
        """Answer birth messages until cancelled."""
        while True:
            await self._born.wait()
            await asyncio.sleep(self._random.uniform(0, _LONGEST_DELAY))
            self._born.clear()
            terminals = (self.topic(known.terminal.sn) for known in self._registry)
            self._retained.send_again([self.topic(), *terminals])
            await asyncio.sleep(_SHORTEST_INTERVAL)

    def _want(self, terminal: Terminal) -> None:
        entity_name = self._names.name(terminal.sn, terminal.title)
        payload = orjson.dumps(terminal_device(self._installation, terminal, entity_name))
        self._retained.want(self.topic(terminal.sn), payload)

    def _admitted(self, event: TerminalAdmitted) -> None:
        known = self._registry.get(event.sn)
        if known is not None:
            self._want(known.terminal)

    def _forgotten(self, event: TerminalForgotten) -> None:
        self._names.forget(event.sn)
        self._retained.clear(self.topic(event.sn))
