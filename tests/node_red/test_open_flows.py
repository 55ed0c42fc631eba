"""The flows that open doors: each outcome has its own path, and no door opens late."""

import asyncio
import itertools

import pytest

from bridge.simulator.behaviour import Behaviour, Drop, Refusal
from bridge.simulator.terminal import SimulatedTerminal
from tests.node_red.node_red_system import NodeRedSystem, SystemFactory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OPEN = "facebridge/terminal/T1/open/set"


async def test_door_opens_and_each_outcome_has_its_path(run_flow: SystemFactory) -> None:
    async with run_flow("open-door", SN="T1", WAIT_SECONDS=6) as system:
        await system.press("Open the door")
        await system.wait_text("offline")
        async with system.terminal_connected() as terminal:
            assert terminal.opened == 0
            await system.press("Open the door")
            await system.wait_text("ok")
            assert terminal.opened == 1
            terminal.behaviour = Behaviour(refusal=Refusal(7, "no power <b>"))
            await system.press("Open the door")
            assert "no power <b>" in await system.wait_text("refused")
            terminal.behaviour = Behaviour(silent=True)
            await system.press("Open the door")
            await system.wait_text("timeout: may have opened")
            after = len(system.node_red.shown)
            terminal.behaviour = Behaviour(drop=Drop.ABORT)
            await system.press("Open the door")
            await system.wait_text("lost: may have opened", after=after)
        presses = [one for one in system.client.heard if one.topic == OPEN]
        assert {(one.qos, one.retain) for one in presses} == {(0, False)}
        assert len(presses) == 5
        assert not [one for one in system.node_red.shown if "Error" in one.text]


async def test_wrong_serial_number_and_stopped_bridge(run_flow: SystemFactory) -> None:
    async with run_flow("open-door", SN="mistyped", WAIT_SECONDS=3) as system:
        await system.press("Open the door")
        await system.wait_text("invalid")
        await system.bridge.stop()
        await system.press("Open the door")
        await system.wait_text("no answer")
        await system.bridge.start()


async def test_rare_outcomes_have_their_paths(run_flow: SystemFactory) -> None:
    """The bridge is stopped, and the test publishes replies in its place."""
    async with run_flow("open-door", forged=True, SN="T1", WAIT_SECONDS=20) as system:
        await system.bridge.stop()
        answers: dict[str, dict[str, object]] = {
            "expired": {"outcome": "expired", "delivered": False},
            "unavailable": {"outcome": "unavailable", "message": "the store is full"},
            "timeout: will not open": {"outcome": "timeout", "delivered": False},
            "timeout: may have opened": {"outcome": "timeout", "delivered": True},
            "lost: will not open": {"outcome": "lost", "delivered": False},
            "lost: may have opened": {"outcome": "lost", "delivered": None},
            "anything else": {"outcome": "astonished"},
        }
        for number, (path, answer) in enumerate(answers.items(), start=1):
            await system.press("Open the door")
            press = (await system.client.wait_for_all(OPEN, number))[-1]
            after = len(system.node_red.shown)
            reply = {**answer, "request_id": press.json["request_id"]}
            await system.client.publish("facebridge/terminal/T1/reply", {**reply, "request_id": "another's"})
            await system.client.publish("facebridge/terminal/T1/reply", b"no JSON")
            await system.client.publish("facebridge/terminal/T1/reply", reply)
            await system.client.publish("facebridge/terminal/T1/reply", reply)
            await system.wait_text(path, after=after)
        assert len(system.node_red.shown) == len(answers), "a repeated reply is ignored"
        await system.bridge.start()


@pytest.mark.parametrize(
    ("name", "button"), [("open-door", "Open the door"), ("groups", "Open all doors of the group")]
)
async def test_forged_echo_does_not_open_a_door(run_flow: SystemFactory, name: str, button: str) -> None:
    async with run_flow(name, forged=True) as system:
        for echo in ("", "another's", "constructor", "__proto__", "toString", b"\xff"):
            await system.client.publish(f"facebridge-replies/node-red/{name}/echo", echo)
        reply = {"request_id": "constructor", "outcome": "ok"}
        await system.client.publish("facebridge/terminal/T1/reply", reply)
        await system.client.publish("facebridge/group/all/reply", reply)
        await system.press(button)
        await system.wait_text("invalid" if name == "open-door" else "all failed")
        assert len(system.node_red.shown) == 1
        assert len([one for one in system.client.heard if one.topic.endswith("/open/set")]) == 1


async def test_press_while_the_broker_is_stopped_never_opens(run_flow: SystemFactory) -> None:
    async with run_flow("open-door", SN="T1", WAIT_SECONDS=6) as system, system.terminal_connected() as terminal:
        await system.broker.stop()
        await system.press("Open the door")
        await system.wait_text("not sent")
        await system.start_broker()
        await press_until_the_door_opens(system, terminal)
        assert len(system.shown_texts("ok")) == terminal.opened == 1, "the earlier press was dropped"


async def press_until_the_door_opens(system: NodeRedSystem, terminal: SimulatedTerminal) -> None:
    """Press until the door opens.

    The bridge may not be connected yet. Then it answers `expired` for up to five seconds, because the new connection
    may bring old presses.
    """
    async with asyncio.timeout(30):
        for number in itertools.count(1):
            await system.press("Open the door")
            await system.wait_text("ok", "expired", "no answer", number=number)
            if terminal.opened:
                return


async def test_press_while_the_broker_is_frozen_never_opens(run_flow: SystemFactory) -> None:
    async with run_flow("open-door", SN="T1", WAIT_SECONDS=6) as system, system.terminal_connected() as terminal:
        system.broker.freeze()
        for _ in range(3):
            await system.press("Open the door")
        await system.wait_text("not sent", number=3)
        system.broker.thaw()
        echoes = "facebridge-replies/node-red/open-door/echo"
        await system.client.wait_for_all(echoes, 3)
        await asyncio.sleep(2)  # no event shows that no press follows
        assert not [one for one in system.client.heard if one.topic == OPEN]
        assert terminal.opened == 0


async def test_frozen_node_red_drops_a_waiting_press(run_flow: SystemFactory) -> None:
    async with run_flow("open-door", SN="T1", WAIT_SECONDS=6) as system, system.terminal_connected() as terminal:
        system.broker.freeze()
        await system.press("Open the door")
        await asyncio.sleep(0.5)  # no event shows that Node-RED has sent the press
        system.node_red.freeze()
        system.broker.thaw()
        await system.client.publish("somewhere/else", "x")
        await asyncio.sleep(2.5)  # longer than the flow lets a press wait
        system.node_red.thaw()
        await system.wait_text("not sent")
        assert terminal.opened == 0


async def test_group_is_opened_and_failed_terminals_are_named(run_flow: SystemFactory) -> None:
    async with run_flow("groups", GROUP="lobby", WAIT_SECONDS=6) as system:
        await system.press("Open all doors of the group")
        none = await system.wait_text("all failed")
        assert "T1" in none
        assert "T2" in none
        async with system.terminal_connected("T1") as first:
            await system.press("Open all doors of the group")
            some = await system.wait_text("some failed")
            assert "T2" in some
            assert "T1" not in some
            assert "offline" in some
            async with system.terminal_connected("T2") as second:
                await system.press("Open all doors of the group")
                await system.wait_text("every door")
                assert (first.opened, second.opened) == (2, 1)
        await system.broker.stop()
        await system.press("Open all doors of the group")
        await system.wait_text("not sent")
        await system.start_broker()


async def test_unknown_group(run_flow: SystemFactory) -> None:
    async with run_flow("groups", GROUP="nowhere", WAIT_SECONDS=6) as system:
        await system.press("Open all doors of the group")
        await system.wait_text("invalid")
