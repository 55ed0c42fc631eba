"""Promise 2, its last sentence: the last word on a change is kept with it, and told once the broker is back."""

import asyncio
from pathlib import Path

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.support.person_scene import person_scene, rows


async def test_last_words_that_fall_into_an_outage_and_a_kill(tmp_path: Path) -> None:
    async with person_scene(tmp_path) as scene:
        for number in range(3):
            await scene.set(f"p{number}")
            await scene.told(f"set p{number}", "accepted")
        await scene.set("p0", "rename", name="Ada")
        await scene.told("set p0", "superseded")
        await scene.stop_broker()
        scene.terminal.behaviour = Behaviour(refusal=Refusal(7, "no face in it"), only_for=frozenset(("p2",)))
        async with scene.terminal.running():
            async with asyncio.timeout(20):
                while len(await rows(tmp_path / "store.db", "SELECT id FROM outbox")) < 3:
                    await asyncio.sleep(0.05)
        await scene.bridge.kill()
        await scene.start_broker()
        # The terminal stays away, and nobody asks for anything: nothing but the start itself makes the bridge tell.
        await scene.bridge.start()
        for request_id, outcome in (("rename", "ok"), ("set p1", "ok"), ("set p2", "refused")):
            public = await scene.told(request_id, outcome)
            mine = await scene.told(request_id, outcome, topic="mine")
            assert (mine.json, mine.correlation_data) == (public.json, b"\x007")
        assert [request.ids for request in scene.terminal.requests] == [("p1",), ("p2",), ("p0",)]
        async with asyncio.timeout(20):
            while await rows(tmp_path / "store.db", "SELECT id FROM outbox"):
                await asyncio.sleep(0.05)
