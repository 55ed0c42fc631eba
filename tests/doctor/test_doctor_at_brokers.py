"""The doctor's findings about real brokers with different configurations."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from bridge.doctor.broker import evaluate_connack
from bridge.doctor.listening import Observations
from bridge.doctor.traffic import evaluate_commands, evaluate_heartbeats
from bridge.doctor.trials import (
    check_large_packets,
    check_permissions,
    check_session,
    check_takeover,
    evaluate_session_expiry,
)
from bridge.model.secret import Secret
from bridge.mqtt.client.messages import ConnackInfo
from bridge.simulator.broker import EmbeddedBroker
from tests.doctor.doctor_system import broker_access, broker_without_delay, configuration_at, run_doctor
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.mqtt_connection import Protocol, answering, scripted_broker, settings_for
from tests.support.ports import free_port
from tests.support.waiting import until


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_stock_mosquitto(tmp_path: Path, stock_mosquitto: Mosquitto, protocol: Protocol) -> None:
    found = await run_doctor(tmp_path, configuration_at(stock_mosquitto.port, mqtt={"protocol": protocol}))
    assert found.wrong == []
    assert found.codes >= {
        "broker_connected", "session_kept", "large_packets_ok", "retain_ok", "sys_ok", "persistence_unseen", "nagle",
        "homeassistant_unseen", "bridge_absent",
    }  # fmt: skip
    assert ("protocol_5_possible" in found.codes) is (protocol == "3.1.1")
    assert ("permissions_ok" in found.codes) is (protocol == "5")
    assert "receive maximum 20" in found.of("broker_connected").what or protocol == "3.1.1"
    assert "set_tcp_nodelay" in found.of("nagle").to_do


async def test_a_mosquitto_without_nagle(tmp_path: Path, mosquitto: Mosquitto) -> None:
    found = await run_doctor(tmp_path, configuration_at(mosquitto.port))
    assert "nagle" not in found.codes
    assert found.codes & {"round_trip_ok", "broker_slow"}


@pytest.mark.parametrize(
    ("option", "protocol"),
    [
        ("max_packet_size 200000", "5"),
        ("max_packet_size 200000", "3.1.1"),
        ("message_size_limit 200000", "5"),
        # Mosquitto acknowledges the message and drops it, so each size takes its timeout.
        pytest.param("message_size_limit 200000", "3.1.1", marks=pytest.mark.slow),
    ],
)
async def test_a_broker_that_accepts_no_large_packets(tmp_path: Path, option: str, protocol: Protocol) -> None:
    async with Mosquitto(tmp_path, [option]) as broker:
        at = broker_access(broker.port, protocol)
        async with at.probe("test") as probe:
            limit = probe.connack.maximum_packet
        assert limit == (200000 if protocol == "5" and "packet" in option else None)
        (found,) = await check_large_packets(at, limit)
    assert found.code == "packets_too_small"
    assert "175,000 bytes gets through" in found.what
    assert "max_packet_size 2000000" in found.to_do


async def test_the_limit_of_mosquitto_2_1_is_enough(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path, ["max_packet_size 2000000"]) as broker:
        (found,) = await check_large_packets(broker_access(broker.port), 2_000_000)
    assert found.code == "large_packets_ok"
    assert "up to 2,000,000 bytes" in found.what


async def test_a_broker_without_retained_messages(tmp_path: Path) -> None:
    async with broker_without_delay(tmp_path, "retain_available false") as broker:
        found = await run_doctor(tmp_path, configuration_at(broker.port))
    assert found.wrong == ["retain_unavailable"]


async def test_a_broker_without_qos_1(tmp_path: Path) -> None:
    async with broker_without_delay(tmp_path, "max_qos 0") as broker:
        found = await run_doctor(tmp_path, configuration_at(broker.port))
    assert found.wrong == ["qos_unavailable"]
    assert not found.codes & {"check_unfinished", "check_failed"}


async def broker_with_rules(folder: Path, *rules: str) -> Mosquitto:
    """Return a broker that allows its user `bridge` only this."""
    (folder / "acl").write_text("\n".join(["user bridge", *rules]) + "\n")
    (folder / "acl").chmod(0o600)
    broker = broker_without_delay(folder, f"acl_file {folder / 'acl'}", anonymous=False)
    broker.set_passwords({"bridge": "secret"})
    return broker


LOGIN = {"username": "bridge", "password": "secret"}


async def test_access_rules_that_are_too_narrow(tmp_path: Path) -> None:
    rules = ["topic readwrite facebridge/doctor/#", "topic read facebridge/#"]
    async with await broker_with_rules(tmp_path, *rules) as broker:
        found = await run_doctor(tmp_path, configuration_at(broker.port, mqtt=LOGIN), echo_timeout_seconds=2)
    assert sorted(found.wrong) == ["publish_refused", "trial_not_heard"]
    assert "facebridge/terminal/doctor-" in found.of("publish_refused").what
    assert "facebridge/bridge/heartbeat" in found.of("trial_not_heard").what
    assert {"sys_unreadable", "session_kept"} <= found.codes


async def test_access_rules_without_the_doctors_topics(tmp_path: Path) -> None:
    rules = ["topic readwrite facebridge/terminal/#", "topic readwrite facebridge/bridge/#"]
    rules += ["topic readwrite facebridge/group/#", "topic read $SYS/#"]
    async with await broker_with_rules(tmp_path, *rules) as broker:
        found = await run_doctor(tmp_path, configuration_at(broker.port, mqtt=LOGIN))
    assert found.wrong == []
    assert {"trials_impossible", "permissions_ok", "sys_ok"} <= found.codes
    assert "facebridge/doctor" in found.of("trials_impossible").to_do


async def test_wrong_credentials_are_reported_once(tmp_path: Path) -> None:
    async with await broker_with_rules(tmp_path, "topic readwrite #") as broker:
        found = await run_doctor(tmp_path, configuration_at(broker.port, mqtt={**LOGIN, "password": "wrong"}))
    assert found.wrong == ["broker_unreachable"]
    assert "credentials" in found.of("broker_unreachable").what
    assert [one.code for one in found.all if one.area == "broker"] == ["broker_unreachable"]


async def test_nothing_listens(tmp_path: Path) -> None:
    found = await run_doctor(tmp_path, configuration_at(free_port()))
    assert found.wrong == ["broker_unreachable"]
    assert "nothing listens" in found.of("broker_unreachable").what


async def test_a_certificate_of_an_unknown_authority(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    for name, blob in (("chain", certificate.cert_chain_pems[0]), ("key", certificate.private_key_pem)):
        blob.write_to_path(tmp_path / name)
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with broker_without_delay(tmp_path, f"certfile {tmp_path}/chain", f"keyfile {tmp_path}/key") as broker:
        found = await run_doctor(tmp_path, configuration_at(broker.port, mqtt={"tls": {"ca": "other.pem"}}))
        assert found.wrong == ["broker_unreachable"]
        assert "cannot be trusted" in found.of("broker_unreachable").what
        right = await run_doctor(tmp_path, configuration_at(broker.port, mqtt={"tls": {"ca": "ca.pem"}}))
        plain = await run_doctor(tmp_path, configuration_at(broker.port))
    assert right.wrong == []
    assert "with TLS" in right.of("broker_connected").what
    assert "may require TLS" in plain.of("broker_unreachable").what


async def test_the_embedded_broker_keeps_no_session(tmp_path: Path) -> None:
    async with EmbeddedBroker() as broker:
        (lost,) = await check_session(replace(broker_access(broker.port, "3.1.1"), echo_timeout_seconds=1))
        assert lost.code == "session_lost"
        found = await run_doctor(tmp_path, configuration_at(broker.port, mqtt={"host": None}))
    assert {"broker_embedded", "broker_connected", "large_packets_ok"} <= found.codes
    assert found.wrong == []


async def test_an_embedded_broker_that_does_not_run_is_no_fault(tmp_path: Path) -> None:
    found = await run_doctor(tmp_path, configuration_at(free_port(), mqtt={"host": None}))
    assert found.wrong == []
    assert "broker_embedded" in found.codes


async def test_dropped_messages_are_reported(tmp_path: Path) -> None:
    options = ["sys_interval 1", "max_queued_messages 2", "max_inflight_messages 1"]
    async with broker_without_delay(tmp_path, *options) as broker:
        away = broker_access(broker.port).persistent_probe("away")
        await away.connect()
        await away.subscribe(["x"])
        await away.close()
        async with mqtt_client(broker.port) as client:
            for _ in range(10):
                await client.publish("x", "1")
        found = await run_doctor(tmp_path, configuration_at(broker.port), listen_seconds=3)
    assert "max_queued_messages" in found.of("messages_dropped").to_do


async def test_retained_commands_are_named(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with mqtt_client(mosquitto.port) as client:
        await client.publish("facebridge/terminal/T1/open/set", "PRESS", retain=True)
        await client.publish("facebridge/group/lobby/person/set", {"id": "1"}, retain=True)
        found = await run_doctor(tmp_path, configuration_at(mosquitto.port))
    what = found.of("retained_command").what
    assert "facebridge/terminal/T1/open/set" in what
    assert "facebridge/group/lobby/person/set" in what


@pytest.mark.parametrize(
    ("payload", "code"), [("online", "homeassistant_online"), ("offline", "homeassistant_offline")]
)
async def test_the_birth_message_of_home_assistant(
    tmp_path: Path, mosquitto: Mosquitto, payload: str, code: str
) -> None:
    async with mqtt_client(mosquitto.port) as client:
        await client.publish("ha/status", payload, retain=True)
        found = await run_doctor(tmp_path, configuration_at(mosquitto.port, homeassistant={"prefix": "ha"}))
    assert code in found.codes


async def test_a_bridge_on_another_store_is_reported(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with mqtt_client(mosquitto.port) as client:
        await client.publish("facebridge/bridge/availability", "online", retain=True)
        await client.publish("facebridge/bridge/info", {"version": "9", "started_at": "yesterday"}, retain=True)
        found = await run_doctor(tmp_path, configuration_at(mosquitto.port))
    assert "version 9, started at yesterday" in found.of("bridge_elsewhere").what
    assert "permissions_ok" not in found.codes, "with a bridge online nothing is published on its topics"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_nothing_is_left_behind(tmp_path: Path, protocol: Protocol) -> None:
    clients, subscriptions = "$SYS/broker/clients/total", "$SYS/broker/subscriptions/count"
    async with (
        broker_without_delay(tmp_path, "sys_interval 1") as broker,
        mqtt_client(broker.port, "other/topic", clients, subscriptions) as client,
    ):

        def figures(topic: str) -> list[int]:
            return [int(one.payload) for one in client.heard if one.topic == topic]

        await client.publish("other/topic", "1", retain=True)
        await until(lambda: figures(clients)[-1:] == [1] and figures(subscriptions)[-1:] == [3])
        await run_doctor(tmp_path, configuration_at(broker.port, mqtt={"protocol": protocol}), listen_seconds=2)
        await until(lambda: max(figures(clients)) > 1)
        await until(lambda: (figures(clients)[-1], figures(subscriptions)[-1]) == (1, 3))
        async with mqtt_client(broker.port, "#") as after:
            await after.wait_for("other/topic")
            assert [one.topic for one in after.heard if one.retain] == ["other/topic"]


async def test_connack_is_read() -> None:
    properties = (
        b"\x11\x00\x00\x0e\x10"  # session expiry interval: an hour
        b"\x21\x00\x05"  # receive maximum
        b"\x24\x01"  # maximum QoS
        b"\x25\x00"  # retain available
        b"\x27\x00\x00\x40\x00"  # maximum packet size
        b"\x12\x00\x02id"  # assigned client id
        b"\x22\x00\x07"  # topic alias maximum
        b"\x28\x00"  # wildcard subscription available
        b"\x13\x00\x1e"  # server keep alive
        b"\x1c\x00\x05other"  # server reference
    )
    connack = b"\x20" + bytes([3 + len(properties)]) + b"\x00\x00" + bytes([len(properties)]) + properties
    async with scripted_broker(answering(connack)) as port, broker_access(port).probe("test") as probe:
        greeting = probe.connack
    assert greeting == ConnackInfo(
        session_present=False, session_expiry=3600, receive_maximum=5, maximum_qos=1, retain_available=False,
        maximum_packet=16384, assigned_id="id", topic_aliases=7, wildcards=False, keep_alive=30,
        server_reference="other",
    )  # fmt: skip
    codes = {one.code for one in evaluate_connack(greeting, settings_for(1))}
    assert codes == {
        "broker_connected", "wildcards_unavailable", "client_id_changed", "receive_maximum_small", "server_reference",
    }  # fmt: skip


def test_a_broker_that_keeps_sessions_only_for_a_while() -> None:
    (short,) = evaluate_session_expiry(ConnackInfo(session_present=False, session_expiry=3600))
    assert (short.code, "3,600 s" in short.what) == ("messages_expire", True)
    assert evaluate_session_expiry(ConnackInfo(session_present=False, session_expiry=0xFFFFFFFF)) == []


def test_refused_subscriptions_are_named() -> None:
    (found,) = evaluate_commands(Observations(refused={"facebridge/terminal/+/open/set": "Not authorized"}))
    assert (found.code, "facebridge/terminal/+/open/set" in found.what) == ("subscribe_refused", True)


@pytest.mark.parametrize(
    ("heard", "deadline", "several"),
    [
        (Observations(seconds=6, heartbeats=10, started={"a"}), 5, False),
        (Observations(seconds=6, heartbeats=20, started={"a"}), 5, True),
        (Observations(seconds=6, heartbeats=48, started={"a"}), 1, False),
        (Observations(seconds=6, heartbeats=0, started={"a", "b"}), 5, True),
    ],
)
def test_heartbeats_show_several_bridges(heard: Observations, deadline: float, several: bool) -> None:
    assert bool(list(evaluate_heartbeats(heard, deadline))) is several


async def test_a_bridge_that_comes_and_goes(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with mqtt_client(mosquitto.port) as client:
        await client.publish("facebridge/bridge/availability", "online", retain=True)
        doctor = run_doctor(tmp_path, configuration_at(mosquitto.port), listen_seconds=2)
        running = asyncio.get_running_loop().create_task(doctor)
        while not running.done():
            await client.publish("facebridge/bridge/availability", "offline", retain=True)
            await client.publish("facebridge/bridge/availability", "online", retain=True)
            await asyncio.sleep(0.2)
        found = await running
    assert "mqtt.client_id" in found.of("bridge_unsteady").to_do


async def test_permissions_are_checked_on_topics_of_no_terminal(mosquitto: Mosquitto) -> None:
    # The payloads are not valid replies and states, so the client must not check them.
    async with mqtt_client(mosquitto.port, "#", base_topic="not/facebridge") as client:
        await check_permissions(broker_access(mosquitto.port))
        await until(lambda: len(client.heard) >= 5)
    assert all("doctor-" in topic or topic == "facebridge/bridge/heartbeat" for topic in client.topics())
    assert len(client.heard) == 5


@pytest.mark.parametrize(("anonymous", "code"), [(True, "session_takeover"), (False, "takeover_refused")])
async def test_a_takeover_by_a_client_without_a_login(anonymous: bool, code: str, tmp_path: Path) -> None:
    options = [f"password_file {tmp_path / 'passwords'}"] if anonymous else []
    broker = broker_without_delay(tmp_path, *options, anonymous=anonymous)
    broker.set_passwords({"bridge": "secret"})
    async with broker:
        access = broker_access(broker.port)
        settings = replace(access.settings, username="bridge", password=Secret("secret"))
        found = await check_takeover(replace(access, settings=settings, echo_timeout_seconds=2))
        assert [one.code for one in found] == [code]
        assert await check_takeover(replace(access, settings=replace(settings, username=None, password=None))) == []
