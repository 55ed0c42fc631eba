"""Faults of brokers, networks and the bridge's own parts, and how the connection reports them."""

import asyncio
import gc
import logging
import socket
import ssl
from pathlib import Path

import pytest
import trustme
import uvloop

from bridge.config.settings import MqttTlsSettings
from bridge.mqtt.client.connection import Message, NotConnectedError, Publication, SubscriptionRefusedError, Will
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_connection import (
    CONNACK_3,
    CONNACK_5,
    DISCONNECT,
    PUBLISH,
    SUBSCRIBE,
    Client,
    Protocol,
    ShortWaits,
    Visit,
    answering,
    scripted_broker,
    settings_for,
)
from tests.support.waiting import TIMEOUT_SECONDS, until


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_problem_is_logged_once_and_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = b"\x20\x03\x00\x87\x00"
    attempts = 0

    async def script(visit: Visit) -> None:
        nonlocal attempts
        attempts += 1
        await visit.next()
        visit.send(answer)
        while answer == CONNACK_5:
            await visit.next()

    async with scripted_broker(script) as port, Client(settings_for(port), random=ShortWaits()).trying() as client:
        await until(lambda: attempts == 3)
        assert "refuses the credentials" in client.problem
        answer = b"\x20\x03\x00\x89\x00"
        await until(lambda: client.problem == "the broker is busy")
        answer = CONNACK_5
        await client.wait_ready()
        assert client.connection.status.problem is None
    assert [text.partition(": ")[2].partition(";")[0] for text in warnings_of(caplog)] == [
        "the broker refuses the credentials: check mqtt.username and mqtt.password",
        "the broker is busy",
    ]
    assert caplog.messages[-1] == "connected to the broker as client"


@pytest.mark.parametrize(
    ("protocol", "connack", "problem"),
    [
        ("5", b"\x20\x02\x00\x01", 'does not support MQTT 5: set mqtt.protocol to "3.1.1"'),
        ("5", b"\x20\x03\x00\x84\x00", 'does not support MQTT 5: set mqtt.protocol to "3.1.1"'),
        ("5", b"\x20\x03\x00\x85\x00", "change mqtt.client_id"),
        ("5", b"\x20\x03\x00\x86\x00", "check mqtt.username and mqtt.password"),
        ("5", b"\x20\x03\x00\x8a\x00", "has banned this client"),
        ("5", b"\x20\x03\x00\x9f\x00", "Connection rate exceeded"),
        ("3.1.1", b"\x20\x02\x00\x01", "not of the version in mqtt.protocol"),
        ("3.1.1", b"\x20\x02\x00\x02", "change mqtt.client_id"),
        ("3.1.1", b"\x20\x02\x00\x03", "is not available"),
        ("3.1.1", b"\x20\x02\x00\x04", "check mqtt.username and mqtt.password"),
        ("3.1.1", b"\x20\x02\x00\x05", "check mqtt.username and mqtt.password"),
    ],
)
async def test_a_refusal_says_what_to_do(protocol: Protocol, connack: bytes, problem: str) -> None:
    async with (
        scripted_broker(answering(connack)) as port,
        Client(settings_for(port, protocol)).trying() as client,
    ):
        await until(lambda: problem in client.problem)


async def test_a_connection_closed_without_connack_names_likely_causes() -> None:
    async def script(visit: Visit) -> None:
        await visit.next()

    async with scripted_broker(script) as port:
        async with Client(settings_for(port)).trying() as client:
            await until(lambda: "may require TLS (mqtt.tls) or not support MQTT 5" in client.problem)
        async with Client(settings_for(port, "3.1.1")).trying() as client:
            await until(lambda: client.problem.endswith("may require TLS (mqtt.tls)"))


async def test_another_client_of_the_same_id_is_reported_if_the_broker_says_so() -> None:
    async with (
        scripted_broker(answering(CONNACK_5, b"\xe0\x02\x8e\x00")) as port,
        Client(settings_for(port)).trying() as client,
    ):
        await until(lambda: "another client connects with the same client id" in client.problem)


async def test_another_client_of_the_same_id_is_suspected_otherwise(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(mosquitto.port)
    async with (
        Client(settings, "same", random=ShortWaits()).running() as first,
        Client(settings, "same", random=ShortWaits()).running() as second,
    ):
        suspicion = "another client may connect with the same client id"
        await until(lambda: suspicion in first.problem or suspicion in second.problem)
    assert len(warnings_of(caplog)) <= 4, "repeated losses are not logged each time"


PUBLISHED = b"\x30\x05\x00\x01aok"


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [
        ("3.1.1", b"\xff" * 8),
        ("3.1.1", CONNACK_3 + b"\x30\x01\x00"),
        ("3.1.1", CONNACK_3 + b"\x90\x01\x00"),
        ("3.1.1", CONNACK_3 + b"\x30\xff\xff\xff\xff\xff"),
        ("5", CONNACK_3),
        ("5", CONNACK_5 + b"\x30\x04\x00\x01a\x7f"),
        ("5", CONNACK_5 + b"\x30\x06\x00\x01a\x02\xff\xff"),
        ("5", CONNACK_5 + b"\x30\x0a\x00\x01a\x05\x08\x00\x02\xff\xfehi"),
    ],
)
async def test_invalid_packets_end_only_the_connection(
    protocol: Protocol, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    broken = True

    async def script(visit: Visit) -> None:
        await visit.next()
        visit.send(sent if broken else (CONNACK_5 if protocol == "5" else CONNACK_3))
        while True:
            await visit.next()

    async with scripted_broker(script) as port, Client(settings_for(port, protocol)).trying() as client:
        await until(lambda: "not valid MQTT" in client.problem or "without an answer" in client.problem)
        broken = False
        await client.wait_ready()
        await until(lambda: client.connection.status.connected)
    assert not [record for record in caplog.records if record.exc_info or record.levelno > logging.WARNING]


async def test_a_topic_that_is_not_utf8_is_ignored() -> None:
    script = answering(CONNACK_3 + b"\x30\x06\x00\x02\xff\xfehi" + b"\x90\x03\x00\x07\x00\x40\x02\x00\x09" + PUBLISHED)
    async with scripted_broker(script) as port, Client(settings_for(port, "3.1.1")).running() as client:
        message = await client.next()
        assert (message.topic, message.payload) == ("a", b"ok")


async def test_a_qos_1_message_with_such_a_topic_is_acknowledged() -> None:
    acknowledged: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(visit: Visit) -> None:
        await visit.next()
        visit.send(CONNACK_3 + b"\x32\x08\x00\x02\xff\xfe\x00\x05hi")
        acknowledged.set_result((await visit.next())[1])

    async with scripted_broker(script) as port, Client(settings_for(port, "3.1.1"), persistent=True).trying():
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await acknowledged == b"\x00\x05"


async def test_an_attempt_without_a_tcp_answer_ends() -> None:
    # When this queue is full, the kernel answers no further SYN.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        async with Client(settings_for(port), connect_timeout_seconds=0.2).trying() as client:
            await until(lambda: client.problem == f"no answer from 127.0.0.1:{port}")
        for filler in fillers:
            filler.close()


async def test_an_attempt_without_connack_ends_and_is_repeated(mosquitto: Mosquitto) -> None:
    mosquitto.freeze()
    async with Client(settings_for(mosquitto.port), connect_timeout_seconds=0.2).trying() as client:
        await until(lambda: client.problem == f"no answer from 127.0.0.1:{mosquitto.port}")
        mosquitto.thaw()
        await client.wait_ready()


async def test_an_unknown_name_is_reported() -> None:
    # RFC 2606 reserves .invalid, so that it never resolves.
    async with Client(settings_for(1, host="broker.invalid")).trying() as client:
        await until(lambda: client.problem == "the name broker.invalid is not known")


async def test_an_invalid_name_is_reported() -> None:
    async with Client(settings_for(1, host="x" * 70)).trying() as client:
        await until(lambda: client.problem.startswith("cannot reach xxx"))


async def test_unusable_tls_files_are_named(tmp_path: Path) -> None:
    pair, other = trustme.CA().issue_cert("bridge.example.org"), trustme.CA().issue_cert("bridge.example.org")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    other.private_key_pem.write_to_path(tmp_path / "other.key")
    (tmp_path / "text").write_text("no certificate")
    for ca, certificate, key, problem in [
        ("absent", None, None, "mqtt.tls.ca {}/absent cannot be used: No such file or directory"),
        ("text", None, None, "mqtt.tls.ca {}/text cannot be used: no certificate or crl found"),
        (None, "own.pem", "absent", "mqtt.tls.certificate {0}/own.pem with mqtt.tls.key {0}/absent cannot be used"),
        (None, "own.pem", "other.key", "key values mismatch"),
    ]:
        tls = MqttTlsSettings(
            ca=tmp_path / ca if ca else None,
            certificate=tmp_path / certificate if certificate else None,
            key=tmp_path / key if key else None,
            verify=True,
        )
        async with Client(settings_for(1, tls=tls)).trying() as client:
            expected = problem.format(tmp_path)
            await until(lambda client=client, expected=expected: expected in client.problem)  # type: ignore[misc]


async def test_all_packets_of_a_tls_record_are_received() -> None:
    """The event loop does not report data that TLS has decrypted already."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    tls = MqttTlsSettings(ca=None, certificate=None, key=None, verify=False)
    async with (
        scripted_broker(answering(CONNACK_3 + 50 * PUBLISHED), context) as port,
        Client(settings_for(port, "3.1.1", tls=tls)).running() as client,
    ):
        assert [(await client.next()).payload for _ in range(50)] == 50 * [b"ok"]


async def test_a_refused_subscription_names_its_topic() -> None:
    async def script(visit: Visit) -> None:
        await visit.next()
        visit.send(CONNACK_5)
        kind, body = await visit.next()
        assert kind == SUBSCRIBE
        visit.send(b"\x90\x05" + body[:2] + b"\x00\x01\x87")
        await visit.next()

    async with scripted_broker(script) as port, Client(settings_for(port)).running() as client:
        with pytest.raises(SubscriptionRefusedError) as refused:
            await client.connection.subscribe(["allowed", "refused"])
        assert refused.value.topic == "refused"


async def test_thousands_of_topics_are_subscribed(mosquitto: Mosquitto, protocol: Protocol) -> None:
    topics = tuple(f"terminal/T{number}/open/set" for number in range(2_500))
    async with Client(settings_for(mosquitto.port, protocol), topics=topics).running() as client:
        for topic in (topics[0], topics[-1]):
            await client.connection.publish(Publication(topic, b"PRESS"))
            assert (await client.next()).topic == topic


async def test_a_refused_publish_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rules").write_text("topic write allowed\n")
    async with (
        Mosquitto(tmp_path, [f"acl_file {tmp_path}/rules"]) as broker,
        Client(settings_for(broker.port)).running() as client,
    ):
        for topic in ("allowed", "forbidden", "forbidden"):
            await client.connection.publish(Publication(topic, b"x"))
    assert warnings_of(caplog) == ["the broker refuses messages on forbidden: Not authorized"]


async def test_the_receive_maximum_of_the_broker_is_kept() -> None:
    received: asyncio.Queue[tuple[Visit, bytes]] = asyncio.Queue()

    async def script(visit: Visit) -> None:
        await visit.next()
        visit.send(b"\x20\x06\x00\x00\x03\x21\x00\x02")  # Receive Maximum 2
        while True:
            received.put_nowait((visit, (await visit.next())[1]))

    async with scripted_broker(script) as port, Client(settings_for(port)).running() as client:
        for number in range(5):
            client.connection.publish_nowait(Publication("a", b"%d" % number, qos=1))
        client.connection.publish_nowait(Publication("a", b"x", qos=0))
        payloads = b""
        first_two: list[bytes] = []
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(payloads) < 6:
                visit, body = await received.get()
                payloads += body[-1:]
                if len(payloads) <= 2:
                    first_two.append(body[3:5])
                if payloads.endswith(b"x"):
                    assert payloads == b"01x", "QoS 0 is not counted, and the third message of QoS 1 waits"
                    for mid in first_two:
                        visit.send(b"\x40\x02" + mid)
                elif b"x" in payloads:
                    visit.send(b"\x40\x02" + body[3:5])
    assert payloads == b"01x234"


async def test_a_packet_above_the_maximum_of_the_broker_is_not_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Mosquitto(tmp_path, ["max_packet_size 2000"]) as broker,
        Client(settings_for(broker.port), topics=("a",)).running() as client,
    ):
        await client.connection.publish(Publication("a", b"x" * 3_000))
        await client.connection.publish(Publication("a", b"small"))
        assert (await client.next()).payload == b"small"
        assert not client.lost.is_set()
    assert "the message on a was not published" in warnings_of(caplog)[0]


async def test_unacknowledged_publishes_are_not_sent_on_the_next_connection() -> None:
    visits: list[list[int]] = []

    async def script(visit: Visit) -> None:
        kinds: list[int] = []
        visits.append(kinds)
        await visit.next()
        visit.send(CONNACK_5)
        while PUBLISH not in kinds:
            kinds.append((await visit.next())[0])

    async with scripted_broker(script) as port, Client(settings_for(port), persistent=True).running() as client:
        with pytest.raises(NotConnectedError):
            await client.connection.publish(Publication("a", b"late"))
        await client.wait_lost()
        await client.wait_ready()
    assert visits == [[PUBLISH], [DISCONNECT]]


async def test_all_waiting_calls_fail_when_the_connection_ends() -> None:
    async with scripted_broker(answering(CONNACK_5)) as port, Client(settings_for(port)).running() as client:
        waiting = [
            asyncio.get_running_loop().create_task(client.connection.publish(Publication("a", b"x"))),
            asyncio.get_running_loop().create_task(client.connection.publish(Publication("a", b"y"))),
            asyncio.get_running_loop().create_task(client.connection.subscribe(["a"])),
        ]
        await asyncio.sleep(0)
        waiting[1].cancel()
        client.connection.abort("broken by the test")
        first, cancelled, last = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(first, NotConnectedError)
        assert isinstance(cancelled, asyncio.CancelledError)
        assert isinstance(last, NotConnectedError)


async def test_the_disconnect_arrives_while_messages_come_in() -> None:
    """A socket that is closed with unread bytes resets the connection, and the broker would publish the will."""
    ending: asyncio.Future[list[int] | str] = asyncio.get_running_loop().create_future()

    async def script(visit: Visit) -> None:
        await visit.next()
        visit.send(CONNACK_5)
        flooding = asyncio.get_running_loop().create_task(flood(visit))
        kinds = []
        try:
            while True:
                kinds.append((await visit.next())[0])
        except asyncio.IncompleteReadError:
            ending.set_result(kinds)
        except ConnectionResetError:
            ending.set_result("reset")
        finally:
            flooding.cancel()

    async def flood(visit: Visit) -> None:
        while True:
            visit.send((b"\x30\x83\x08\x00\x01a\x00" + b"x" * 1023) * 50)
            await visit.sent()

    async with scripted_broker(script) as port:
        async with Client(settings_for(port), will=Will(topic="will", payload=b"")).running() as client:
            await client.next()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await ending == [DISCONNECT]


async def test_queued_publishes_are_sent_before_the_disconnect(mosquitto: Mosquitto, protocol: Protocol) -> None:
    settings = settings_for(mosquitto.port, protocol)
    async with Client(settings, "watcher", ("last",)).running() as watcher:
        async with Client(settings).running() as client:
            for number in range(200):
                client.connection.publish_nowait(Publication("last", b"%d" % number, qos=1))
        assert [int((await watcher.next()).payload) for _ in range(200)] == list(range(200))


async def test_a_failing_handler_is_logged_and_the_next_message_is_handled(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    handled: asyncio.Queue[bytes] = asyncio.Queue()

    def handle(message: Message) -> None:
        if message.payload == b"bad":
            raise LookupError("a defect")
        handled.put_nowait(message.payload)

    settings = settings_for(mosquitto.port)
    async with Client(settings, "handler", ("a/b",), on_message=handle).running() as client:
        await client.connection.publish(Publication("a/b", b"bad"))
        await client.connection.publish(Publication("a/b", b"good"))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await handled.get() == b"good"
    assert warnings_of(caplog) == ["handler could not handle a message on a/b"]


async def test_it_reconnects_after_a_failure_of_on_connect(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [LookupError("a defect")]

    async def begin() -> None:
        if failures:
            raise failures.pop()

    async with Client(settings_for(mosquitto.port), on_connect=begin).trying() as client:
        await client.wait_lost()
        await client.wait_ready()
    warnings = warnings_of(caplog)
    assert warnings[0] == "on_connect of client failed"
    assert "the bridge's log has the details" in warnings[1]


async def test_ended_connections_are_collected_silently(mosquitto: Mosquitto) -> None:
    """paho reports a socket again in `__del__`; a traceback there is a warning, and warnings fail the test."""
    for _ in range(5):
        async with Client(settings_for(mosquitto.port)).running() as client:
            client.connection.abort("broken by the test")
            await client.wait_lost()
        del client
        gc.collect()


def test_it_runs_on_uvloop(tmp_path: Path) -> None:
    async def echo() -> None:
        async with (
            Mosquitto(tmp_path) as broker,
            Client(settings_for(broker.port), topics=("a",)).running() as client,
        ):
            large = b"x" * 3_000_000
            await client.connection.publish(Publication("a", large))
            assert (await client.next()).payload == large
            client.connection.abort("broken by the test")
            await client.wait_lost()
            await client.wait_ready()
            await client.connection.publish(Publication("a", b"again"))
            assert (await client.next()).payload == b"again"

    uvloop.run(echo())
