"""The connection to a real broker: connecting, losing the connection, reconnecting, and what survives."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from bridge.config.settings import MqttTlsSettings
from bridge.model.secret import Secret
from bridge.mqtt.client.connection import NotConnectedError, Publication, Will
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_connection import Client, Protocol, settings_for
from tests.support.ports import free_port
from tests.support.waiting import until


async def test_a_published_message_is_received(mosquitto: Mosquitto, protocol: Protocol) -> None:
    async with Client(settings_for(mosquitto.port, protocol), topics=("a/+", "b")).running() as client:
        await client.connection.publish(Publication("a/1", b"one"))
        client.connection.publish_nowait(Publication("b", b"two", qos=0))
        first, second = await client.next(), await client.next()
    assert (first.topic, first.payload, first.qos, first.retain) == ("a/1", b"one", 1, False)
    assert (second.topic, second.payload, second.qos) == ("b", b"two", 0)


def sockets_connected_to(port: int) -> Iterator[socket.socket]:
    """Give a handle of each socket of this process that is connected to a port."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            handle = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        with handle, suppress(OSError):
            if handle.family == socket.AF_INET and handle.getpeername()[1] == port:
                yield handle


async def test_the_sockets_send_at_once(mosquitto: Mosquitto) -> None:
    async with Client(settings_for(mosquitto.port)).running():
        (no_delay,) = [
            handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for handle in sockets_connected_to(mosquitto.port)
        ]
    assert no_delay != 0


async def test_stored_messages_are_not_delivered_and_retained_ones_are_marked(mosquitto: Mosquitto) -> None:
    async with Client(settings_for(mosquitto.port), "publisher").running() as publisher:
        await publisher.connection.publish(Publication("a/stored", b"old", retain=True))
        async with Client(settings_for(mosquitto.port), topics=("a/+",)).running() as client:
            await publisher.connection.publish(Publication("a/live", b"new", retain=True))
            message = await client.next()
            assert (message.topic, message.retain) == ("a/live", True)


async def test_the_will_is_published_for_a_connection_that_breaks(mosquitto: Mosquitto, protocol: Protocol) -> None:
    settings = settings_for(mosquitto.port, protocol)
    async with (
        Client(settings, "watcher", ("will",)).running() as watcher,
        Client(settings, will=Will(topic="will", payload=b"gone")).running() as client,
    ):
        client.connection.abort("broken by the test")
        message = await watcher.next()
        assert message.payload == b"gone"


async def test_no_will_is_published_for_a_clean_stop(mosquitto: Mosquitto, protocol: Protocol) -> None:
    settings = settings_for(mosquitto.port, protocol)
    async with Client(settings, "watcher", ("will", "end")).running() as watcher:
        async with Client(settings, will=Will(topic="will", payload=b"gone")).running() as client:
            client.connection.publish_nowait(Publication("end", b"published just before", qos=1))
        await watcher.connection.publish(Publication("end", b"after"))
        assert [(await watcher.next()).payload for _ in range(2)] == [b"published just before", b"after"]


async def test_it_reconnects_after_a_restart_of_the_broker(mosquitto: Mosquitto, protocol: Protocol) -> None:
    async with Client(settings_for(mosquitto.port, protocol), topics=("a",)).running() as client:
        await mosquitto.stop()
        await client.wait_lost()
        with pytest.raises(NotConnectedError):
            client.connection.publish_nowait(Publication("a", b"never", qos=0))
        assert not client.connection.status.connected
        await until(lambda: "nothing listens" in client.problem)
        await mosquitto.start()
        await client.wait_ready()
        await client.connection.publish(Publication("a", b"again"))
        assert (await client.next()).payload == b"again", "and no message from before"


async def test_a_waiting_publish_fails_when_the_broker_ends(mosquitto: Mosquitto) -> None:
    async with Client(settings_for(mosquitto.port)).running() as client:
        mosquitto.freeze()
        waiting = asyncio.get_running_loop().create_task(client.connection.publish(Publication("a", b"one")))
        await asyncio.sleep(0)
        await mosquitto.kill()
        with pytest.raises(NotConnectedError):
            await waiting


async def test_a_persistent_session_keeps_unacknowledged_messages(mosquitto: Mosquitto, protocol: Protocol) -> None:
    settings = settings_for(mosquitto.port, protocol)
    async with Client(settings, "keeper", ("a",), persistent=True).running() as first:
        await first.connection.publish(Publication("a", b"1"))
        await first.connection.publish(Publication("a", b"2"))
        first_message = await first.next()
        await first.next()
        first.connection.acknowledge(first_message)
        await first.connection.publish(Publication("elsewhere", b"sent after the acknowledgement"))
    async with Client(settings, "publisher").running() as publisher:
        await publisher.connection.publish(Publication("a", b"3"))
    async with Client(settings, "keeper", ("a",), persistent=True).running() as second:
        assert [(await second.next()).payload for _ in range(2)] == [b"2", b"3"]


async def test_an_acknowledgement_of_an_earlier_connection_is_dropped(mosquitto: Mosquitto) -> None:
    settings = settings_for(mosquitto.port)
    async with Client(settings, "keeper", ("a",), persistent=True).running() as client:
        await client.connection.publish(Publication("a", b"1"))
        old = await client.next()
        client.connection.abort("broken by the test")
        await client.wait_lost()
        await client.wait_ready()
        again = await client.next()
        assert (again.payload, again.mid) == (b"1", old.mid), "the same packet id on another connection"
        client.connection.acknowledge(old)
        await client.connection.publish(Publication("elsewhere", b"sent after an acknowledgement"))
    async with Client(settings, "keeper", ("a",), persistent=True).running() as client:
        assert (await client.next()).payload == b"1"


async def test_wrong_credentials_are_logged_once_and_tried_again(
    tmp_path: Path, protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path, anonymous=False)
    broker.set_passwords({"bridge": "before"})
    async with broker:
        settings = settings_for(broker.port, protocol, username="bridge", password=Secret("after"))
        async with Client(settings).trying() as client:
            await until(lambda: "refuses the credentials" in client.problem)
            assert "after" not in caplog.text
            broker.set_passwords({"bridge": "after"})
            await client.wait_ready()
    assert caplog.text.count("refuses the credentials") == 1


async def test_a_port_without_a_broker_is_reported() -> None:
    port = free_port()
    async with Client(settings_for(port)).trying() as client:
        await until(lambda: client.problem == f"nothing listens on 127.0.0.1:{port}")


def tls_options(authority: trustme.CA, folder: Path, name: str = "127.0.0.1") -> list[str]:
    """Write the files of a broker with TLS; return its options."""
    certificate = authority.issue_cert(name)
    certificate.private_key_pem.write_to_path(folder / "broker.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "broker.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return [f"certfile {folder}/broker.pem", f"keyfile {folder}/broker.key", f"cafile {folder}/ca.pem"]


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    options = [*tls_options(authority, tmp_path), "require_certificate true"]
    own = authority.issue_cert("bridge.example.org")
    own.private_key_pem.write_to_path(tmp_path / "own.key")
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    tls = MqttTlsSettings(
        ca=tmp_path / "ca.pem", certificate=tmp_path / "own.pem", key=tmp_path / "own.key", verify=True
    )
    async with (
        Mosquitto(tmp_path, options) as broker,
        Client(settings_for(broker.port, tls=tls), topics=("a",)).running() as client,
    ):
        large = b"x" * 500_000
        await client.connection.publish(Publication("a", large))
        assert (await client.next()).payload == large


@pytest.mark.parametrize(("name", "trusted"), [("127.0.0.1", False), ("elsewhere.example.org", True)])
async def test_an_untrusted_certificate_is_reported(tmp_path: Path, name: str, trusted: bool) -> None:
    authority = trustme.CA()
    options = tls_options(authority, tmp_path, name)
    if not trusted:
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    ca = tmp_path / ("ca.pem" if trusted else "other.pem")
    async with Mosquitto(tmp_path, options) as broker:
        tls = MqttTlsSettings(ca=ca, certificate=None, key=None, verify=True)
        async with Client(settings_for(broker.port, tls=tls)).trying() as client:
            await until(lambda: "cannot be trusted" in client.problem)
        unverified = MqttTlsSettings(ca=None, certificate=None, key=None, verify=False)
        async with Client(settings_for(broker.port, tls=unverified)).running():
            pass
