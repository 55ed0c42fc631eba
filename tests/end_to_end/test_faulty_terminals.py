"""Promise 2 with terminals that are offline, lose their connection, refuse persons or answer slowly."""

from pathlib import Path

import pytest

from bridge.simulator.behaviour import Behaviour, Drop, Refusal
from tests.support.bridge_system import bridge_system


async def test_terminal_that_connects_after_restarts(tmp_path: Path) -> None:
    """Bridge and broker restart before the terminal connects; the sender still gets its final replies."""
    async with bridge_system(tmp_path) as system:
        for number in range(5):
            await system.set_person(f"p{number}")
            await system.wait_reply(f"set p{number}", "accepted")
        await system.set_person("p1", "rename", name="Ada")
        await system.wait_reply("set p1", "superseded")
        await system.remove_person("p2", "remove")
        await system.wait_reply("remove", "accepted")
        await system.bridge.kill()
        await system.stop_broker()
        await system.start_broker()
        await system.bridge.start()
        async with system.terminal_connected() as terminal:
            for request_id in ("set p0", "rename", "set p3", "set p4"):
                last = await system.wait_reply(request_id, "ok", topic="mine")
                assert last.correlation_data == b"\x007"
            await system.wait_reply("remove", "ok")
            assert {person.id: person.name for person in terminal.persons.values()} == {
                "p0": "Name of p0",
                "p1": "Ada",
                "p3": "Name of p3",
                "p4": "Name of p4",
            }
            assert {one["delivery"] for one in (await system.list_persons("all")).values()} == {"confirmed"}
            await system.wait_counts(desired=4, confirmed=4, pending=0, refused=0)


async def test_confirmed_person_is_not_sent_again(tmp_path: Path) -> None:
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        await system.set_person("p0")
        await system.wait_reply("set p0", "ok")
        await system.restart_bridge()
        await system.set_person("p1")
        await system.wait_reply("set p1", "ok")
        assert [request.ids for request in terminal.requests] == [("p0",), ("p1",)]


@pytest.mark.parametrize("how", list(Drop))
async def test_terminal_that_drops_the_connection_at_each_person(tmp_path: Path, how: Drop) -> None:
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        terminal.behaviour = Behaviour(drop=how)
        for number in range(3):
            await system.set_person(f"p{number}")
        await terminal.wait_until(lambda: terminal.connections >= 4)
        assert terminal.persons == {}
        terminal.behaviour = Behaviour()
        for number in range(3):
            await system.wait_reply(f"set p{number}", "ok")
            assert system.outcomes(f"set p{number}") == ["accepted", "ok"]
        assert set(terminal.persons) == {"p0", "p1", "p2"}


@pytest.mark.parametrize("how", list(Drop))
async def test_terminal_that_drops_the_connection_before_its_answer(tmp_path: Path, how: Drop) -> None:
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        terminal.behaviour = Behaviour(silent=True)
        await system.set_person("p0")
        await terminal.wait_request("setPerson")
        await system.set_person("p0", "rename", name="Ada")
        await system.wait_reply("set p0", "superseded")
        terminal.behaviour = Behaviour()
        await terminal.disconnect(how)
        await system.wait_reply("rename", "ok")
        assert terminal.persons["p0"].name == "Ada"
        assert system.outcomes("set p0") == ["accepted", "superseded"]


async def test_person_that_ends_the_connection_does_not_block_others(tmp_path: Path) -> None:
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        terminal.behaviour = Behaviour(drop=Drop.ABORT, only_for=frozenset(("p0",)))
        for number in range(4):
            await system.set_person(f"p{number}")
        for number in range(1, 4):
            await system.wait_reply(f"set p{number}", "ok")
        assert system.outcomes("set p0") == ["accepted"]
        assert (await system.list_persons("all"))["p0"]["delivery"] == "pending"
        await system.remove_person("p0", "give up")
        terminal.behaviour = Behaviour()
        await system.wait_reply("give up", "ok")
        assert set(terminal.persons) == {"p1", "p2", "p3"}


async def test_no_change_overtakes_the_removal_of_everyone(tmp_path: Path) -> None:
    """However often the removal fails: a person sent before it would be removed with the others."""
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        await system.set_person("p0")
        await system.wait_reply("set p0", "ok")
        terminal.behaviour = Behaviour(drop=Drop.ABORT, only_for=frozenset((None,)))
        await system.remove_everyone("everyone")
        await system.set_person("p1")
        await terminal.wait_request("removePerson", 6)
        assert set(terminal.persons) == {"p0"}
        terminal.behaviour = Behaviour()
        await system.wait_reply("everyone", "ok")
        await system.wait_reply("set p1", "ok")
        assert set(terminal.persons) == {"p1"}


async def test_refused_person(tmp_path: Path) -> None:
    """The bridge shows the terminal's reason, goes on with the others, and sends the person again only at a sync."""
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        terminal.behaviour = Behaviour(refusal=Refusal(7, "no face in it"), only_for=frozenset(("p1",)))
        for number in range(4):
            await system.set_person(f"p{number}")
        refused = await system.wait_reply("set p1", "refused", topic="mine")
        assert (refused.json["status"], refused.json["message"]) == (7, "no face in it")
        for number in (0, 2, 3):
            await system.wait_reply(f"set p{number}", "ok")
        await system.wait_counts(desired=4, confirmed=3, pending=0, refused=1)
        shown = (await system.list_persons("at first"))["p1"]
        assert (shown["delivery"], shown["status"], shown["message"]) == ("refused", 7, "no face in it")

        # A reconnect or a restart does not send the person again.
        await terminal.disconnect()
        await system.restart_bridge()
        await system.set_person("p4")
        await system.wait_reply("set p4", "ok")
        assert [request.ids for request in terminal.requests if "p1" in request.ids] == [("p1",)]
        assert (await system.list_persons("again"))["p1"]["delivery"] == "refused"

        await system.send_command("person/sync", "still")
        await system.wait_reply("still", "ok")
        assert (await system.list_persons("still refused"))["p1"]["delivery"] == "refused"
        terminal.behaviour = Behaviour()
        await system.send_command("person/sync", "now")
        await system.wait_reply("now", "ok")
        assert (await system.list_persons("accepted"))["p1"]["delivery"] == "confirmed"
        assert set(terminal.persons) == {f"p{number}" for number in range(5)}
        await system.wait_counts(desired=5, confirmed=5, pending=0, refused=0)


async def test_door_opens_while_a_person_is_in_flight(tmp_path: Path) -> None:
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        terminal.behaviour = Behaviour(silent=True)
        await system.set_person("p0")
        await terminal.wait_request("setPerson")
        terminal.behaviour = Behaviour()
        assert (await system.send_command("open/set", "door")).json["outcome"] == "ok"
        assert [request.cmd for request in terminal.requests] == ["setPerson", "open"]


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_terminal_that_answers_after_the_repeat(tmp_path: Path) -> None:
    """The bridge repeats a frame after 20 s, and accepts the answer to the first attempt three seconds later."""
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        terminal.behaviour = Behaviour(answer_delay=23)
        await system.set_person("p0")
        await system.wait_reply("set p0", "accepted")
        ok = await system.wait_reply("set p0", "ok", within=40)
        first, second = terminal.requests
        assert ok.json["msgid"] == first.msgid != second.msgid
        terminal.behaviour = Behaviour()
        await system.set_person("p1")
        await system.wait_reply("set p1", "ok", within=40)
        await terminal.wait_until(lambda: terminal.connected)
        assert [request.ids for request in terminal.requests] == [("p0",), ("p0",), ("p1",)], (
            "the bridge stops repeating"
        )
        assert system.outcomes("set p0") == ["accepted", "ok"]
        await system.wait_counts(desired=2, confirmed=2, pending=0, refused=0)
