"""The HTTP API: all its routes, and what runs for them."""

import asyncio

from bridge.core.clock import Clock
from bridge.core.repeated_presses import RepeatedPresses
from bridge.core.replies import ReplyDispatcher
from bridge.web.api.changes import ChangeRoutes
from bridge.web.api.event_hub import EventHub
from bridge.web.api.events import EventRoutes
from bridge.web.api.groups import GroupRoutes
from bridge.web.api.log import LogRoutes
from bridge.web.api.openapi import OpenApiRoute
from bridge.web.api.persons import PersonRoutes
from bridge.web.api.presses import PressRoutes
from bridge.web.api.terminals import TerminalRoutes
from bridge.web.context import BridgeStatus, WebLimits, WebServices
from bridge.web.monitoring import HealthRoutes, MetricsRoutes
from bridge.web.routes import RouteTable


class Api:
    """The routes of the API and for monitoring.

    Attributes:
        routes: all of them.
    """

    def __init__(self, services: WebServices, status: BridgeStatus, clock: Clock, limits: WebLimits) -> None:
        """Build the routes.

        Args:
            services: the services behind the routes.
            status: the state of the bridge's other parts.
            clock: the time.
            limits: of bodies, commands and streams.
        """
        replies = ReplyDispatcher(services.events, clock)
        self._presses = PressRoutes(services.presses, replies, RepeatedPresses(clock), limits)
        self._changes = ChangeRoutes(services.person_commands, services.admission, services.registry, replies, limits)
        hub = EventHub(services.registry, services.person_service, services.events, clock, status.summary)
        self._events = EventRoutes(hub, limits)
        self._health = HealthRoutes(status)
        self.routes = RouteTable()
        for part in (
            TerminalRoutes(services.registry, services.person_service, services.admission),
            self._presses,
            self._changes,
            PersonRoutes(services.registry, services.person_reader),
            GroupRoutes(services.registry, services.person_reader),
            LogRoutes(services.read_audit),
            self._events,
            self._health,
            MetricsRoutes(services, status),
            OpenApiRoute(self.routes),
        ):
            self.routes.declare(part.routes())

    @property
    def open_streams(self) -> int:
        """How many clients receive server-sent events."""
        return self._events.open_streams

    def start(self) -> None:
        """Begin to offer events."""
        self._events.start()

    async def stop(self, grace_seconds: float) -> None:
        """End the streams, and cancel the commands that still run after `grace_seconds`."""
        async with asyncio.TaskGroup() as stopping:
            stopping.create_task(self._presses.stop(grace_seconds))
            stopping.create_task(self._changes.stop(grace_seconds))
        await self._events.stop()
        await self._health.stop()
