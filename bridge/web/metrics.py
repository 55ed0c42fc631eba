"""`/metrics` for Prometheus. No SN and no name stands in a label: a scrape is kept for years."""

from collections.abc import Callable, Iterable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.core.admission import Admission
from bridge.core.commands import COMMANDS
from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonsPort
from bridge.core.registry import TerminalRegistry
from bridge.model.events import CommandReplied, PersonSettled, TerminalRefused, UnknownReply
from bridge.model.outcome import Outcome

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds: from a quick terminal's answer to the longest deadline."""


class MetricsRoutes:
    """Counts what happens, and looks at the rest when asked."""

    def __init__(
        self,
        registry: TerminalRegistry,
        admission: Admission,
        person_service: PersonsPort,
        events: EventBus,
        broker_statuses: Callable[[], Mapping[str, str | None]],
        queue_lengths: Callable[[], Mapping[str, int]],
    ) -> None:
        self._collected = CollectorRegistry()
        self._commands = Counter(
            "facebridge_commands",
            "Commands by how they ended.",
            ("command", "outcome"),
            registry=self._collected,
        )
        # From zero on: Prometheus sees no increase in a series that begins with one.
        for definition in COMMANDS:
            for outcome in Outcome:
                self._commands.labels(definition.name, outcome.value)
        self._seconds = Histogram(
            "facebridge_command_seconds",
            "Time from taking a command to its reply.",
            ("command",),
            buckets=_BUCKETS,
            registry=self._collected,
        )
        self._refused = Counter(
            "facebridge_terminals_refused", "Handshakes turned away, as far as told.", registry=self._collected
        )
        self._unknown = Counter(
            "facebridge_unknown_replies", "Replies to a msgid that nothing waited for.", registry=self._collected
        )
        self._collected.register(_Snapshot(registry, admission, person_service, broker_statuses, queue_lengths))
        events.subscribe(CommandReplied, self._replied, name="metrics")
        events.subscribe(PersonSettled, self._replied, name="metrics")
        events.subscribe(TerminalRefused, lambda _: self._refused.inc(), name="metrics")
        events.subscribe(UnknownReply, lambda _: self._unknown.inc(), name="metrics")

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get("/metrics", self._metrics)

    def _replied(self, event: CommandReplied | PersonSettled) -> None:
        reply = event.reply
        self._commands.labels(reply.command, reply.outcome.value).inc()
        if reply.duration_ms is not None:
            self._seconds.labels(reply.command).observe(reply.duration_ms / 1000)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(self._collected), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Snapshot(Collector):
    def __init__(
        self,
        registry: TerminalRegistry,
        admission: Admission,
        person_service: PersonsPort,
        broker_statuses: Callable[[], Mapping[str, str | None]],
        queue_lengths: Callable[[], Mapping[str, int]],
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._person_service = person_service
        self._broker_statuses = broker_statuses
        self._queue_lengths = queue_lengths

    def collect(self) -> Iterable[Metric]:
        """Return the gauges as they are now."""
        known = list(self._registry)
        counts = [self._person_service.counts(one.terminal.sn) for one in known]
        yield _gauge(
            "facebridge_terminals",
            "Terminals: known, those of them that are online, and those that wait for approval.",
            "state",
            {
                "known": len(known),
                "online": sum(one.connection is not None for one in known),
                "pending": len(self._admission.pending),
            },
        )
        yield _gauge(
            "facebridge_persons",
            "Persons on terminals, by how far they are.",
            "state",
            {
                "desired": sum(one.desired for one in counts),
                "confirmed": sum(one.confirmed for one in counts),
                "pending": sum(one.pending for one in counts),
                "refused": sum(one.refused for one in counts),
            },
        )
        yield _gauge("facebridge_queue_length", "What waits where.", "queue", self._queue_lengths())
        yield _gauge(
            "facebridge_broker_connected",
            "Whether a connection to the broker is there.",
            "connection",
            {name: int(problem is None) for name, problem in self._broker_statuses().items()},
        )
        yield _gauge("facebridge_build_info", "The version that runs.", "version", {__version__: 1})


def _gauge(name: str, meaning: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
