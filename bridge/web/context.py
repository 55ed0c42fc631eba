"""The parts of the bridge that the HTTP server uses, and its limits."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bridge.core.admission import Admission
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import DesiredPersons
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.model.audit import AuditFilter, AuditRecord
from bridge.model.bridge_summary import BridgeSummary
from bridge.net.passwords import Verify
from bridge.persons.reading import PersonReader
from bridge.web.page.context import PageServices

ReadAudit: TypeAlias = Callable[[AuditFilter, int | None, int], Awaitable[tuple[Sequence[AuditRecord], int]]]
"""Returns the wanted records older than the one with an id (None: the youngest ones), at most so many, the youngest
first; and the number of all wanted records. Raises UnavailableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebServices:
    """The services behind the routes.

    Attributes:
        registry: the known terminals.
        presses: carries presses out.
        admission: approves terminals, and knows those that wait for approval.
        person_commands: carries person changes out.
        person_service: counts the persons of each terminal.
        events: published for rejected presses, and counted by the metrics.
        verify: verifies passwords and tokens in constant time.
        person_reader: reads the stored persons.
        read_audit: reads the log.
        page: the services of the page; None: the server has only the API.
    """

    registry: TerminalRegistry
    presses: Presses
    admission: Admission
    person_commands: PersonCommands
    person_service: DesiredPersons
    events: EventBus
    verify: Verify
    person_reader: PersonReader
    read_audit: ReadAudit
    page: PageServices | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeStatus:
    """Functions that return the state of the bridge's other parts.

    Attributes:
        broker_statuses: returns the problem of each connection to the broker, by name; None for no problem.
        store_reachable: returns within a few seconds whether the store answers.
        queue_lengths: returns the length of each queue, by name.
        summary: returns the numbers about the whole bridge, as on `B/bridge/info`.
    """

    broker_statuses: Callable[[], Mapping[str, str | None]]
    store_reachable: Callable[[], Awaitable[bool]]
    queue_lengths: Callable[[], Mapping[str, int]]
    summary: Callable[[], BridgeSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """Limits of the HTTP server.

    Attributes:
        max_connections: connections that may be open at once; a few browsers and programs need a hundredth of it.
        request_seconds: from connecting to the last header of a request.
        body_seconds: for sending a body of some hundred bytes. A press that takes longer may be too old anyway.
        max_running_presses: presses that may run at once, as over MQTT; a client that disconnects does not end its
            press.
        max_running_changes: changes of persons and terminals that may run at once.
        max_uploads: persons with a photo that are in the memory at once, each with up to 2.5 times `max_photo_bytes`.
        max_photo_bytes: of an incoming photo (`photos.max_bytes`).
        max_listeners: streams of events that may be open at once: ten tabs of ten people, and some programs.
        max_waiting_events: events that may wait for a stream: the state of every terminal in the largest installation,
            twice. All streams share the events, so a slow one holds 160 KB of references.
        heartbeat_seconds: between two heartbeats of a stream. A page that has received nothing for longer than two of
            them is not live any more.
        upload_seconds: for sending a photo.
    """

    max_connections: int = 512
    request_seconds: float = 10.0
    body_seconds: float = 10.0
    max_running_presses: int = 1_000
    max_running_changes: int = 100
    max_uploads: int = 4
    max_photo_bytes: int = 10 * 1024 * 1024
    max_listeners: int = 128
    max_waiting_events: int = 20_000
    heartbeat_seconds: float = 5.0
    upload_seconds: float = 60.0
