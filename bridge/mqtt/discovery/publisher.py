"""Keep the discovery payloads retained, and publish them again when Home Assistant starts."""

import asyncio
from collections.abc import Sequence
from random import Random

import orjson

from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.events import TerminalAdmitted, TerminalForgotten
from bridge.model.terminal import Terminal
from bridge.mqtt.client.connection import Message
from bridge.mqtt.discovery.devices import Installation, bridge_device
from bridge.mqtt.discovery.names import EntityNames
from bridge.mqtt.discovery.terminal_payloads import TerminalPayloads
from bridge.mqtt.retained import RetainedTopics

_HOME_ASSISTANT = "homeassistant"
"""The first level of Home Assistant's birth topic by default."""

_BIRTH_PAYLOAD = b"online"

_MAX_DELAY_SECONDS = 1.0
"""Before the answer to a birth message, at random, so that not all devices of a house answer at once."""

_MIN_INTERVAL_SECONDS = 10.0
"""Between two answers: any client may publish a birth message, and the answer can be ten thousand payloads."""

_BATCH_PAYLOADS = 50
"""Payloads built before other tasks may run: some milliseconds."""


class Discovery:
    """Keeps a discovery payload for the bridge and for every known terminal."""

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
            installation: the bridge.
            prefix: `homeassistant.prefix`.
            retained: publishes the payloads.
            registry: the terminals.
            events: reports terminals that are added, changed and forgotten.
            random: spreads the answers to birth messages.
        """
        self._installation = installation
        self._prefix = prefix
        self._retained = retained
        self._registry = registry
        self._random = random
        self._names = EntityNames()
        self._payloads = TerminalPayloads(installation)
        self._has_started = asyncio.Event()
        events.subscribe(TerminalAdmitted, self._admitted, name="Home Assistant discovery")
        events.subscribe(TerminalForgotten, self._forgotten, name="Home Assistant discovery")

    @property
    def birth_topics(self) -> Sequence[str]:
        """The topics of Home Assistant's birth message."""
        return list(dict.fromkeys((f"{self._prefix}/status", f"{_HOME_ASSISTANT}/status")))

    def topic(self, sn: str | None = None) -> str:
        """Return the discovery topic of a terminal, or of the bridge itself."""
        return f"{self._prefix}/device/{self._installation.object_id(sn)}/config"

    async def start(self) -> None:
        """Publish all devices, the bridge's own first."""
        self._retained.want(self.topic(), orjson.dumps(bridge_device(self._installation)))
        for position, known in enumerate(self._registry):
            self._want(known.terminal)
            if position % _BATCH_PAYLOADS == 0:
                await asyncio.sleep(0)

    def received(self, message: Message) -> None:
        """Handle a message of a birth topic."""
        if message.payload == _BIRTH_PAYLOAD:
            self._has_started.set()

    async def run(self) -> None:
        """Answer birth messages until cancelled."""
        while True:
            await self._has_started.wait()
            await asyncio.sleep(self._random.uniform(0, _MAX_DELAY_SECONDS))
            self._has_started.clear()
            terminals = (self.topic(known.terminal.sn) for known in self._registry)
            self._retained.send_again([self.topic(), *terminals])
            await asyncio.sleep(_MIN_INTERVAL_SECONDS)

    def _want(self, terminal: Terminal) -> None:
        entity_name = self._names.name(terminal.sn, terminal.title)
        self._retained.want(self.topic(terminal.sn), self._payloads.payload(terminal, entity_name))

    def _admitted(self, event: TerminalAdmitted) -> None:
        known = self._registry.get(event.sn)
        if known is not None:
            self._want(known.terminal)

    def _forgotten(self, event: TerminalForgotten) -> None:
        self._names.forget(event.sn)
        self._retained.clear(self.topic(event.sn))
