"""A press in a real Node-RED: every outcome takes its own path, and no door opens late."""

import asyncio

import pytest

from bridge.simulator.behaviour import Behaviour, Drop, Refusal
from bridge.simulator.terminal import SimulatedTerminal
from tests.node_red.scene import Scene, SceneMaker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OPEN = "facebridge/terminal/T1/open/set"


async def test_a_door_is_opened_and_every_answer_has_its_path(flow: SceneMaker) -> None:
    async with flow("open-door", SN="T1", WAIT_SECONDS=6) as scene:
        await scene.press("Open the door")
        await scene.told("offline")
        async with scene.terminal_there() as terminal:
            assert terminal.opened == 0
            await scene.press("Open the door")
            await scene.told("ok")
            assert terminal.opened == 1
            terminal.behaviour = Behaviour(refusal=Refusal(7, "no power <b>"))
            await scene.press("Open the door")
            assert "no power <b>" in await scene.told("refused")
            terminal.behaviour = Behaviour(silent=True)
            await scene.press("Open the door")
            await scene.told("timeout: may have opened")
            after = len(scene.node_red.shown)
            terminal.behaviour = Behaviour(drop=Drop.ABORT)
            await scene.press("Open the door")
            await scene.told("lost: may have opened", after=after)
        presses = [one for one in scene.client.heard if one.topic == OPEN]
        assert {(one.qos, one.retain) for one in presses} == {(0, False)}
        assert len(presses) == 5
        assert not [one for one in scene.node_red.shown if "Error" in one.text]


async def test_a_wrong_sn_and_a_bridge_that_is_away_are_told(flow: SceneMaker) -> None:
    async with flow("open-door", SN="mistyped", WAIT_SECONDS=3) as scene:
        await scene.press("Open the door")
        await scene.told("invalid")
        await scene.bridge.stop()
        await scene.press("Open the door")
        await scene.told("no answer")
        await scene.bridge.start()


async def test_answers_that_are_rare_have_their_paths(flow: SceneMaker) -> None:
    """The bridge is away; somebody answers in its place."""
    async with flow("open-door", forged=True, SN="T1", WAIT_SECONDS=20) as scene:
        await scene.bridge.stop()
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
            await scene.press("Open the door")
            press = (await scene.client.wait_for_all(OPEN, number))[-1]
            after = len(scene.node_red.shown)
            reply = {**answer, "request_id": press.json["request_id"]}
            await scene.client.publish("facebridge/terminal/T1/reply", {**reply, "request_id": "another's"})
            await scene.client.publish("facebridge/terminal/T1/reply", b"no JSON")
            await scene.client.publish("facebridge/terminal/T1/reply", reply)
            await scene.client.publish("facebridge/terminal/T1/reply", reply)
            await scene.told(path, after=after)
        assert len(scene.node_red.shown) == len(answers), "an answer counts once"
        await scene.bridge.start()


@pytest.mark.parametrize(
    ("name", "button"), [("open-door", "Open the door"), ("groups", "Open all doors of the group")]
)
async def test_nobody_opens_a_door_with_a_word_of_their_own(flow: SceneMaker, name: str, button: str) -> None:
    async with flow(name, forged=True) as scene:
        for word in ("", "another's", "constructor", "__proto__", "toString", b"\xff"):
            await scene.client.publish(f"facebridge-replies/node-red/{name}/echo", word)
        reply = {"request_id": "constructor", "outcome": "ok"}
        await scene.client.publish("facebridge/terminal/T1/reply", reply)
        await scene.client.publish("facebridge/group/all/reply", reply)
        await scene.press(button)
        await scene.told("invalid" if name == "open-door" else "all failed")
        assert len(scene.node_red.shown) == 1
        assert len([one for one in scene.client.heard if one.topic.endswith("/open/set")]) == 1


async def test_a_press_while_the_broker_is_away_is_told_and_never_opens(flow: SceneMaker) -> None:
    async with flow("open-door", SN="T1", WAIT_SECONDS=6) as scene, scene.terminal_there() as terminal:
        await scene.broker.stop()
        await scene.press("Open the door")
        await scene.told("not sent")
        await scene.start_broker()
        await until_opened(scene, terminal)
        assert len(scene.all_told("ok")) == terminal.opened == 1, "the press before was dropped"


async def until_opened(scene: Scene, terminal: SimulatedTerminal) -> None:
    """Press until the door opens: the bridge may not be back yet, and is careful with presses when it just is."""
    for number in range(1, 20):
        await scene.press("Open the door")
        await scene.told("ok", "expired", "no answer", number=number)
        if terminal.opened:
            return
    raise AssertionError("the door does not open any more")


async def test_a_press_while_the_broker_hangs_never_opens(flow: SceneMaker) -> None:
    async with flow("open-door", SN="T1", WAIT_SECONDS=6) as scene, scene.terminal_there() as terminal:
        scene.broker.freeze()
        for _ in range(3):
            await scene.press("Open the door")
        await scene.told("not sent", number=3)
        scene.broker.thaw()
        echoes = "facebridge-replies/node-red/open-door/echo"
        await scene.client.wait_for_all(echoes, 3)
        await asyncio.sleep(2)  # nothing tells that nothing follows
        assert not [one for one in scene.client.heard if one.topic == OPEN]
        assert terminal.opened == 0


async def test_a_frozen_node_red_drops_a_press_that_waited(flow: SceneMaker) -> None:
    async with flow("open-door", SN="T1", WAIT_SECONDS=6) as scene, scene.terminal_there() as terminal:
        scene.broker.freeze()
        await scene.press("Open the door")
        await asyncio.sleep(0.5)  # the press is on its way once Node-RED has passed it on, which nothing tells
        scene.node_red.freeze()
        scene.broker.thaw()
        await scene.client.publish("somewhere/else", "x")
        await asyncio.sleep(2.5)  # longer than the flow lets a press wait
        scene.node_red.thaw()
        await scene.told("not sent")
        assert terminal.opened == 0


async def test_a_group_is_opened_and_who_failed_is_told(flow: SceneMaker) -> None:
    async with flow("groups", GROUP="lobby", WAIT_SECONDS=6) as scene:
        await scene.press("Open all doors of the group")
        none = await scene.told("all failed")
        assert "T1" in none
        assert "T2" in none
        async with scene.terminal_there("T1") as first:
            await scene.press("Open all doors of the group")
            some = await scene.told("some failed")
            assert "T2" in some
            assert "T1" not in some
            assert "offline" in some
            async with scene.terminal_there("T2") as second:
                await scene.press("Open all doors of the group")
                await scene.told("every door")
                assert (first.opened, second.opened) == (2, 1)
        await scene.broker.stop()
        await scene.press("Open all doors of the group")
        await scene.told("not sent")
        await scene.start_broker()


async def test_an_unknown_group_is_told(flow: SceneMaker) -> None:
    async with flow("groups", GROUP="nowhere", WAIT_SECONDS=6) as scene:
        await scene.press("Open all doors of the group")
        await scene.told("invalid")
