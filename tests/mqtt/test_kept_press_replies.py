"""Replies to presses wait for the broker: for a minute, at most 1,000 and at most 1 MiB of them."""

import orjson
import pytest

from bridge.core.event_bus import EventBus
from bridge.core.replies import ReplyBuilder
from bridge.model.events import CommandReplied
from bridge.model.origin import Origin
from bridge.model.reply import Outcome, Reply
from bridge.mqtt.publisher import Publisher
from bridge.mqtt.topics import Topics
from tests.support.core import ManualClock
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_connection import CONNACK_5, PUBLISH, Client, Visit, scripted_broker, settings_for
from tests.support.waiting import until

REPLIES = "facebridge/terminal/T1/reply"
ORIGIN = Origin(source="test")
MINUTE_SECONDS = 60
MAX_REPLIES = 1_000
MAX_BYTES = 1_048_576


class KeptReplies:
    """A publisher whose broker is away until `connect`."""

    def __init__(self, port: int) -> None:
        self.clock = ManualClock()
        self._events = EventBus()
        self._port = port
        self._client = Client(settings_for(port), "bridge", on_connect=self._connected)
        self._publisher = Publisher(Topics("facebridge"), self._client.connection, self._events, self.clock)

    def reply(self, request_id: str, message: str = "") -> Reply:
        builder = ReplyBuilder("open", request_id, "T1", self.clock.boottime(), self.clock)
        return builder.reply(Outcome.EXPIRED, message=message, delivered=False)

    def publish(self, reply: Reply) -> None:
        self._events.publish(CommandReplied(at=self.clock.now(), reply=reply, origin=ORIGIN))

    async def connect(self) -> list[str]:
        """Let the broker come back; return the request ids of the replies that a subscriber then receives."""
        received = []
        watching = Client(settings_for(self._port), "watcher", (REPLIES,)).running()
        async with watching as watcher, self._client.running():
            self.publish(self.reply("end"))
            while (request_id := orjson.loads((await watcher.next()).payload)["request_id"]) != "end":
                received.append(request_id)
        return received

    async def wait_published(self, visits: list[list[int]]) -> None:
        """Connect again and again until the broker has received a reply over two connections."""
        async with self._client.running():
            self.publish(self.reply("r1"))
            await until(lambda: sum(PUBLISH in packets for packets in visits) == 2)

    async def _connected(self) -> None:
        self._publisher.connected()


@pytest.fixture
def replies(mosquitto: Mosquitto) -> KeptReplies:
    return KeptReplies(mosquitto.port)


async def test_a_reply_waits_for_a_minute(replies: KeptReplies) -> None:
    replies.publish(replies.reply("too old"))
    replies.clock.seconds += 0.001
    replies.publish(replies.reply("just in time"))
    replies.clock.seconds += MINUTE_SECONDS
    assert await replies.connect() == ["just in time"]


async def test_a_thousand_replies_wait_and_the_oldest_are_dropped(replies: KeptReplies) -> None:
    for number in range(MAX_REPLIES + 1):
        replies.publish(replies.reply(str(number)))
    assert await replies.connect() == [str(number) for number in range(1, MAX_REPLIES + 1)]


def reply_of_size(replies: KeptReplies, request_id: str, size: int) -> Reply:
    missing = size - len(orjson.dumps(replies.reply(request_id).as_json()))
    reply = replies.reply(request_id, "x" * missing)
    assert len(orjson.dumps(reply.as_json())) == size
    return reply


async def test_a_reply_that_the_broker_has_not_acknowledged_is_published_again() -> None:
    visits: list[list[int]] = []

    async def disconnect_at_first_publish(visit: Visit) -> None:
        packets: list[int] = []
        visits.append(packets)
        await visit.next()
        visit.send(CONNACK_5)
        while PUBLISH not in packets:
            packets.append((await visit.next())[0])

    async with scripted_broker(disconnect_at_first_publish) as port:
        await KeptReplies(port).wait_published(visits)


@pytest.mark.parametrize(("last_bytes", "dropped"), [(MAX_BYTES // 64, 0), (MAX_BYTES // 64 + 1, 1)])
async def test_a_mebibyte_of_replies_waits_and_the_oldest_are_dropped(
    replies: KeptReplies, last_bytes: int, dropped: int
) -> None:
    sizes = [MAX_BYTES // 64] * 63 + [last_bytes]
    for number, size in enumerate(sizes):
        replies.publish(reply_of_size(replies, str(number), size))
    assert await replies.connect() == [str(number) for number in range(dropped, 64)]
