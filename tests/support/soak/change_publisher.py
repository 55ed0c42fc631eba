"""A publisher of person changes that loses none, although brokers are killed and forget what they acknowledged."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson

from tests.support.person_stream import Change
from tests.support.soak import mqtt_packets
from tests.support.soak.clock import now, time_of_day
from tests.support.soak.replies import ChangeReplies

_RETRY_SECONDS = 0.2

_ROLLBACK_SECONDS = 30.0
"""A killed broker goes back to its last saved state. It saves every second, but not while it is frozen (12 s)."""

_MAX_IN_FLIGHT = 20


@dataclass(eq=False, slots=True)
class _Message:
    request_id: str
    topic: str
    payload: bytes
    is_acknowledged: bool = False
    is_sent: bool = False


class ChangePublisher:
    """Publishes changes with QoS 1 in their order, and again after each loss, in the same order.

    It is the publisher of an important site: it waits for the bridge's `accepted`. If its connection breaks, it sends
    again from the first unacknowledged change on; if the broker was killed, also changes that the broker may have
    forgotten, or delivers again from its older state.

    Args:
        name: the client id.
        port: the broker's port.
        replies: tell what the bridge has accepted.
        is_dated: whether the changes carry `asked_at`.
    """

    def __init__(self, name: str, port: int, replies: ChangeReplies, *, is_dated: bool) -> None:
        self._name = name
        self._port = port
        self._replies = replies
        self._is_dated = is_dated
        self._messages: deque[_Message] = deque()
        self._waiting: deque[_Message] = deque()
        self._in_flight: deque[_Message] = deque()
        self._packet_id = 0
        self._writer: asyncio.StreamWriter | None = None

    def publish(self, change: Change) -> None:
        """Publish a change."""
        self.publish_payload(change.request_id, change.topic, change.payload)

    def publish_payload(self, request_id: str, topic: str, payload: Mapping[str, Any]) -> None:
        """Publish a change that has this request id."""
        dated = {"asked_at": time_of_day()} if self._is_dated else {}
        message = _Message(request_id, topic, orjson.dumps({**payload, **dated}))
        self._messages.append(message)
        self._waiting.append(message)
        self._send()

    def broker_was_killed(self) -> None:
        """Send everything again that the broker may have lost. The connection must be broken."""
        since = now() - _ROLLBACK_SECONDS
        for message in self._messages:
            accepted_at = self._replies.accepted_at.get(message.request_id)
            if (accepted_at is None or accepted_at > since) and not self._is_safe(message):
                message.is_acknowledged = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ChangePublisher"]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(), name=self._name)
            try:
                yield self
            finally:
                task.cancel()

    async def _run(self) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError, _NotKeptError):
                async with mqtt_packets.connection(self._port, self._name) as (reader, writer):
                    await self._serve(reader, writer)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._forget_settled()
        # From the first unacknowledged message on, and everything after it: the order must stay the same.
        self._waiting = deque(self._messages)
        while self._waiting and self._waiting[0].is_acknowledged:
            self._waiting.popleft()
        self._waiting = deque(message for message in self._waiting if not self._is_safe(message))
        self._in_flight.clear()
        self._writer = writer
        try:
            self._send()
            while True:
                first, body = await mqtt_packets.read_packet(reader)
                if first == mqtt_packets.PUBACK:
                    message = self._in_flight.popleft()
                    # "No matching subscribers" also acknowledges, but the broker drops the message.
                    if len(body) > 2 and body[2] != 0:
                        raise _NotKeptError
                    message.is_acknowledged = True
                    self._send()
        finally:
            self._writer = None

    def _send(self) -> None:
        while self._writer is not None and self._waiting and len(self._in_flight) < _MAX_IN_FLIGHT:
            message = self._waiting.popleft()
            if message.is_sent:
                self._replies.repeated(message.request_id)
            message.is_sent = True
            self._packet_id = self._packet_id % 65535 + 1
            self._in_flight.append(message)
            self._writer.write(mqtt_packets.publish(message.topic, message.payload, qos=1, packet_id=self._packet_id))

    def _is_safe(self, message: _Message) -> bool:
        """Return whether the bridge has the message, and recognises it if the broker delivers it again as a new one."""
        return self._is_dated and self._replies.is_acknowledged(message.request_id)

    def _forget_settled(self) -> None:
        since = now() - 2 * _ROLLBACK_SECONDS
        while self._messages:
            accepted_at = self._replies.accepted_at.get(self._messages[0].request_id)
            if accepted_at is None or accepted_at > since or not self._messages[0].is_acknowledged:
                return
            self._messages.popleft()


class _NotKeptError(Exception):
    """The broker has no subscription to keep a message for."""
