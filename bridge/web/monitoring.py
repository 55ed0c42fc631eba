"""Health, readiness and metrics for monitoring systems."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.core.commands import COMMANDS
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import CommandReplied, PersonSettled, TerminalRefused, TerminalReplaced, UnknownReply
from bridge.model.json_schema import output_schema
from bridge.model.reply import Outcome
from bridge.web.authentication import USER
from bridge.web.context import BridgeStatus, WebServices
from bridge.web.errors import json_response
from bridge.web.routes import ResponseContent, Route

_HEALTH_SCHEMA = output_schema({"status": {"const": "ok"}}, title="Health", description="The process runs.")

_READINESS_SCHEMA = output_schema(
    {
        "status": {"enum": ["ok", "not ready"], "description": "whether every check is `ok`"},
        "checks": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "the result of each check: `ok`, or for people what is wrong",
        },
    },
    title="Readiness",
    description="Whether the bridge reaches broker and store.",
)


class HealthRoutes:
    """Routes for monitors and watchdogs; they need no login, and without one they name no host and no address."""

    def __init__(self, status: BridgeStatus) -> None:
        self._status = status
        self._tasks = BackgroundTasks()
        self._store_check: asyncio.Task[bool] | None = None

    def routes(self) -> Iterator[Route]:
        """Return the routes."""
        yield Route(
            method="GET",
            path="/healthz",
            handler=self._healthz,
            summary="Answer as long as the process runs",
            tag="monitoring",
            role=None,
            responses={200: ResponseContent(description="the process runs", schema=_HEALTH_SCHEMA)},
        )
        yield Route(
            method="GET",
            path="/readyz",
            handler=self._readyz,
            summary="Check whether broker and store are reachable",
            tag="monitoring",
            role=None,
            responses={
                200: ResponseContent(description="they are", schema=_READINESS_SCHEMA),
                503: ResponseContent(description="one of them is not", schema=_READINESS_SCHEMA),
            },
        )

    async def stop(self) -> None:
        """Cancel a running check of the store."""
        await self._tasks.stop()

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        # A problem can name the broker's address.
        shows_problems = request.get(USER) is not None
        checks = {
            f"broker ({name})": "ok" if problem is None else problem if shows_problems else "not connected"
            for name, problem in self._status.broker_statuses().items()
        }
        checks["store"] = "ok" if await self._store_reachable() else "does not answer or cannot be written to"
        ready = all(result == "ok" for result in checks.values())
        return json_response({"status": "ok" if ready else "not ready", "checks": checks}, 200 if ready else 503)

    async def _store_reachable(self) -> bool:
        # No login is needed here, so simultaneous requests share one query of the store.
        if self._store_check is None or self._store_check.done():
            self._store_check = self._tasks.start(self._check_store(), name="check of the store")
        return await asyncio.shield(self._store_check)

    async def _check_store(self) -> bool:
        return await self._status.store_reachable()


_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From a quick terminal's answer to the longest deadline."""


class MetricsRoutes:
    """Counters fed by events, and gauges that are read at each scrape."""

    def __init__(self, services: WebServices, status: BridgeStatus) -> None:
        self._registry = CollectorRegistry()
        self._commands = Counter(
            "facebridge_commands",
            "Commands by outcome.",
            ("command", "outcome"),
            registry=self._registry,
        )
        # Create every series with 0: Prometheus sees no increase in a series that starts with 1.
        for definition in COMMANDS:
            for outcome in Outcome:
                self._commands.labels(definition.name, outcome.value)
        self._seconds = Histogram(
            "facebridge_command_seconds",
            "Time from receiving a command to its reply.",
            ("command",),
            buckets=_BUCKETS_SECONDS,
            registry=self._registry,
        )
        self._series: dict[tuple[str, Outcome], tuple[Counter, Histogram]] = {}
        self._refused = Counter(
            "facebridge_terminals_refused", "Handshakes refused, as far as reported.", registry=self._registry
        )
        self._replaced = Counter(
            "facebridge_terminals_replaced",
            "Connections of terminals that a second connection with the same SN has replaced.",
            registry=self._registry,
        )
        self._unknown = Counter("facebridge_unknown_replies", "Replies with an unknown msgid.", registry=self._registry)
        self._registry.register(_Gauges(services, status))
        services.events.subscribe(CommandReplied, self._replied, name="metrics")
        services.events.subscribe(PersonSettled, self._replied, name="metrics")
        services.events.subscribe(TerminalRefused, lambda _: self._refused.inc(), name="metrics")
        services.events.subscribe(TerminalReplaced, lambda _: self._replaced.inc(), name="metrics")
        services.events.subscribe(UnknownReply, lambda _: self._unknown.inc(), name="metrics")

    def routes(self) -> Iterator[Route]:
        """Return the route."""
        yield Route(
            method="GET",
            path="/metrics",
            handler=self._metrics,
            summary="Return metrics for Prometheus",
            tag="monitoring",
            responses={
                200: ResponseContent(
                    description="the metrics in Prometheus' text format",
                    schema={"type": "string"},
                    content_type="text/plain",
                )
            },
        )

    def _replied(self, event: CommandReplied | PersonSettled) -> None:
        reply = event.reply
        key = (reply.command, reply.outcome)
        series = self._series.get(key)
        if series is None:
            # `labels` takes as long as counting.
            series = self._commands.labels(reply.command, reply.outcome.value), self._seconds.labels(reply.command)
            self._series[key] = series
        counter, seconds = series
        counter.inc()
        if reply.duration_ms is not None:
            seconds.observe(reply.duration_ms / 1000)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Gauges(Collector):
    def __init__(self, services: WebServices, status: BridgeStatus) -> None:
        self._services = services
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """Return the gauges as they are now."""
        known = list(self._services.registry)
        counts = [self._services.person_service.counts(one.terminal.sn) for one in known]
        yield _gauge(
            "facebridge_terminals",
            "Terminals that are known, that are online, and that wait for approval.",
            "state",
            {
                "known": len(known),
                "online": sum(one.connection is not None for one in known),
                "pending": len(self._services.admission.pending),
            },
        )
        yield _gauge(
            "facebridge_persons",
            "Persons on terminals, by delivery state.",
            "state",
            {
                "desired": sum(one.desired for one in counts),
                "confirmed": sum(one.confirmed for one in counts),
                "pending": sum(one.pending for one in counts),
                "refused": sum(one.refused for one in counts),
            },
        )
        sizes = self._services.person_service.group_sizes()
        members = {group for one in known for group in one.terminal.memberships}
        # Names of groups are no labels: there can be any number of them, and metrics are read without a role.
        yield _gauge(
            "facebridge_group_persons",
            "Persons that groups keep, by whether the group has members.",
            "members",
            {
                "some": sum(number for group, number in sizes.items() if group in members),
                "none": sum(number for group, number in sizes.items() if group not in members),
            },
        )
        yield _gauge("facebridge_queue_length", "Length of each queue.", "queue", self._status.queue_lengths())
        yield _gauge(
            "facebridge_broker_connected",
            "Whether a connection to the broker is established.",
            "connection",
            {name: int(problem is None) for name, problem in self._status.broker_statuses().items()},
        )
        yield _gauge("facebridge_build_info", "The running version.", "version", {__version__: 1})


def _gauge(name: str, description: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
