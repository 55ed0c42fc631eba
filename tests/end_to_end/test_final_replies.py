"""Promise 2: the bridge stores the final reply with the change, and publishes it when the broker is back."""

import asyncio
from pathlib import Path

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.support.bridge_system import bridge_system, query


async def test_final_replies_after_a_broker_outage_and_a_kill(tmp_path: Path) -> None:
    async with bridge_system(tmp_path) as system:
        for number in range(3):
            await system.set_person(f"p{number}")
            await system.wait_reply(f"set p{number}", "accepted")
        await system.set_person("p0", "rename", name="Ada")
        await system.wait_reply("set p0", "superseded")
        await system.stop_broker()
        system.terminal.behaviour = Behaviour(refusal=Refusal(7, "no face in it"), only_for=frozenset(("p2",)))
        async with system.terminal.running():
            async with asyncio.timeout(20):
                while len(await query(tmp_path / "store.db", "SELECT id FROM outbox")) < 3:
                    await asyncio.sleep(0.05)
        await system.bridge.kill()
        await system.start_broker()
        # The terminal stays away and no client sends a command: the start alone makes the bridge publish the replies.
        await system.bridge.start()
        for request_id, outcome in (("rename", "ok"), ("set p1", "ok"), ("set p2", "refused")):
            public = await system.wait_reply(request_id, outcome)
            mine = await system.wait_reply(request_id, outcome, topic="mine")
            assert (mine.json, mine.correlation_data) == (public.json, b"\x007")
        assert [request.ids for request in system.terminal.requests] == [("p1",), ("p2",), ("p0",)]
        async with asyncio.timeout(20):
            while await query(tmp_path / "store.db", "SELECT id FROM outbox"):
                await asyncio.sleep(0.05)
