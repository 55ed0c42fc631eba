"""`GET /api/events`: the present state, then every change, as server-sent events."""

import asyncio
import logging
from collections.abc import Iterator

from aiohttp import hdrs, web

from bridge.core.tasks import BackgroundTasks
from bridge.model.bridge_summary import BRIDGE_SUMMARY_SCHEMA
from bridge.model.faults import InvalidError
from bridge.model.json_schema import JsonSchema, output_schema
from bridge.model.names import SERIAL_NUMBER, is_serial_number
from bridge.web.api.common import choice_parameter, failure
from bridge.web.api.event_hub import EVENT_TYPES, EventHub, Listener
from bridge.web.api.terminals import TERMINAL_SCHEMA
from bridge.web.authentication import until_logout
from bridge.web.connections import add_common_headers
from bridge.web.context import WebLimits
from bridge.web.errors import RequestError
from bridge.web.routes import QUERY, QueryParameter, ResponseContent, Route

_LOGGER = logging.getLogger(__name__)

_MAX_SNS = 200
"""Terminals that a listener can choose: those of a page on a screen."""

_WRITE_BYTES = 65_536
"""Bytes that are written at once."""

_WRITE_SECONDS = 20.0
"""Time in which a client must read what is written; then it is cut off."""

_RETRY_SECONDS = 2
"""After this time a browser connects again."""

SNAPSHOT_SCHEMA: JsonSchema = output_schema(
    {
        "bridge": BRIDGE_SUMMARY_SCHEMA,
        "terminals": {"type": "array", "items": TERMINAL_SCHEMA, "description": "the chosen terminals"},
    },
    title="Snapshot",
    description="The state at the begin of a stream of events.",
)
"""The schema of the data of the event `snapshot`."""


def _parse_types(value: str) -> frozenset[str]:
    types = value.split(",")
    for one in types:
        if one not in EVENT_TYPES:
            raise InvalidError.at("", f"must be a list of {', '.join(EVENT_TYPES)}, separated by commas")
    return frozenset(types)


def _parse_sns(value: str) -> tuple[str, ...]:
    if not value:
        return ()
    sns = tuple(dict.fromkeys(value.split(",")))
    if len(sns) > _MAX_SNS or not all(map(is_serial_number, sns)):
        raise InvalidError.at("", f"must be at most {_MAX_SNS} SNs, separated by commas, or empty")
    return sns


_TYPES = QueryParameter(
    name="types",
    schema={
        "type": "string",
        "pattern": f"^({'|'.join(EVENT_TYPES)})(,({'|'.join(EVENT_TYPES)}))*$",
        "description": "only events of these types, separated by commas: "
        + "; ".join(f"`{name}`: {meaning}" for name, meaning in EVENT_TYPES.items()),
    },
    parse=_parse_types,
    default=frozenset(EVENT_TYPES),
)
_TERMINALS = QueryParameter(
    name="terminals",
    schema={
        "type": "string",
        "pattern": f"^({SERIAL_NUMBER.pattern}(,{SERIAL_NUMBER.pattern})*)?$",
        "description": f"only the states of these terminals, at most {_MAX_SNS} SNs separated by commas; empty for "
        "none, left out for all",
    },
    parse=_parse_sns,
)
_SNAPSHOT = choice_parameter(
    "snapshot",
    {
        "full": "with the states of the terminals",
        "bridge": "without them, for a client that gets them in another way",
    },
    "the event `snapshot`",
    default="full",
)


class EventRoutes:
    """The stream of events."""

    def __init__(self, hub: EventHub, limits: WebLimits) -> None:
        """Build the route.

        Args:
            hub: offers the events.
            limits: of the streams.
        """
        self._hub = hub
        self._limits = limits
        self._tasks = BackgroundTasks()

    def routes(self) -> Iterator[Route]:
        """Return the route."""
        yield Route(
            method="GET",
            path="/api/events",
            handler=self._events,
            summary="Stream the present state and then every change, as server-sent events",
            tag="events",
            query=(_TYPES, _TERMINALS, _SNAPSHOT),
            responses={
                200: ResponseContent(
                    description="`text/event-stream`: an event `snapshot`, then the chosen events, and every few "
                    "seconds a `heartbeat`. The data of each event are JSON. A client that reads too slowly is cut "
                    "off, and gets a new snapshot when it connects again",
                    schema={"type": "string"},
                    content_type="text/event-stream",
                ),
                503: failure("too many streams are open"),
            },
        )

    def start(self) -> None:
        """Begin to offer events."""
        self._tasks.start(self._hub.run(self._limits.heartbeat_seconds), name="server-sent events")

    @property
    def open_streams(self) -> int:
        """How many clients receive events."""
        return len(self._hub)

    async def stop(self) -> None:
        """End every stream."""
        self._hub.stop()
        await self._tasks.stop()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._hub) >= self._limits.max_listeners:
            message = f"{self._limits.max_listeners} streams are open; close some"
            raise RequestError(503, message, headers={hdrs.RETRY_AFTER: "5"})
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "text/event-stream",
                # A proxy that compresses or buffers would hold events back.
                hdrs.CACHE_CONTROL: "no-store, no-transform",
                "X-Accel-Buffering": "no",
            }
        )
        add_common_headers(response)
        response.force_close()
        query = request[QUERY]
        listener = Listener(
            query["types"], query["terminals"], self._limits.max_waiting_events, on_overflow=lambda: _cut_off(request)
        )
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        with self._hub.listening(listener), until_logout(request, listener.end):
            await _write(request, response, b"retry: %d\n\n" % (_RETRY_SECONDS * 1000))
            for part in self._hub.snapshot(listener, has_terminals=query["snapshot"] == "full"):
                await _write(request, response, part)
                # Writing waits only for a client that reads slowly.
                await asyncio.sleep(0)
            while (frames := await listener.next(_WRITE_BYTES)) is not None:
                await _write(request, response, frames)
        return response


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Write a part of the stream. Raises ConnectionError if the client is gone or too slow."""
    try:
        async with asyncio.timeout(_WRITE_SECONDS):
            await response.write(data)
    except TimeoutError:
        _cut_off(request)
        raise ConnectionResetError("too slow") from None


def _cut_off(request: web.Request) -> None:
    """End a connection whose client reads too slowly, without waiting until it has read the rest."""
    _LOGGER.info("a client of /api/events reads too slowly: closed its connection")
    if request.transport is not None:
        request.transport.abort()
