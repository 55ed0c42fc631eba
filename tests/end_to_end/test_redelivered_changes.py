"""Promise 2 when a change arrives twice: brokers and publishers repeat messages that were not acknowledged.

An older value must not undo a newer one, and each change gets its final reply.
"""

from pathlib import Path

import pytest

from tests.support.bridge_system import PHOTO, REPLY, BridgeSystem, bridge_system
from tests.support.facebridge import facebridge_process
from tests.support.one_way_link import OneWayLink
from tests.support.waiting import until


async def kill_before_acknowledgements_arrive(system: BridgeSystem, link: OneWayLink) -> None:
    """Kill the bridge after its commit, while its acknowledgements are on the way to the broker."""
    await system.bridge.kill()
    link.reset()
    system.client.heard.clear()
    await system.bridge.start()
    await system.wait_online()


async def test_stored_changes_without_acknowledgement(tmp_path: Path) -> None:
    async with (
        OneWayLink().running() as link,
        bridge_system(tmp_path, link=link) as system,
        system.terminal_connected() as terminal,
    ):
        link.hold_back()
        await system.set_person("p0")
        for number in range(6):
            await system.set_person("p0", f"name {number}", name=f"Name {number}")
        await system.set_person("p1")
        await system.remove_person("p1", "remove p1")
        await until(lambda: "p0" in terminal.persons and terminal.persons["p0"].name == "Name 5")
        await terminal.wait_request("removePerson")
        await kill_before_acknowledgements_arrive(system, link)
        # The broker delivers the repeated changes before the new one.
        await system.set_person("p2")
        await system.wait_reply("set p2", "ok")
        assert {person.id: person.name for person in terminal.persons.values()} == {"p0": "Name 5", "p2": "Name of p2"}
        for request_id in ("set p0", *(f"name {number}" for number in range(5)), "set p1"):
            assert {"ok", "superseded"} & set(system.outcomes(request_id)), f"the change arrived again: {request_id}"
        await system.wait_reply("name 5", "ok")
        await system.wait_reply("remove p1", "ok")
        assert {name: one["name"] for name, one in (await system.list_persons("all")).items()} == {
            "p0": "Name 5",
            "p2": "Name of p2",
        }


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("is_killed", [True, False], ids=["bridge killed", "link broken"])
async def test_a_redelivered_change_does_not_undo_a_newer_one(tmp_path: Path, protocol: str, is_killed: bool) -> None:
    """The newer change does not come over the broker, which would deliver it again behind the older one."""
    async with (
        OneWayLink().running() as link,
        bridge_system(tmp_path, link=link, protocol=protocol) as system,
        system.terminal_connected() as terminal,
    ):
        await system.set_person("p1")
        await system.wait_reply("set p1", "ok")
        link.hold_back()
        await system.set_person("p0")
        await system.set_person("p1", "rename", name="Ada")
        await until(lambda: "p0" in terminal.persons and terminal.persons["p1"].name == "Ada")
        purged = await facebridge_process(tmp_path, "persons", "purge", "p0", "-c", "config.yaml")
        assert purged.code == 0, purged.stderr
        assert set(terminal.persons) == {"p1"}
        if is_killed:
            await kill_before_acknowledgements_arrive(system, link)
        else:
            system.client.heard.clear()
            link.reset()
        # The bridge gives the last known reply again, and the broker has delivered it all before the next change.
        await system.wait_reply("rename", "ok", topic="mine" if protocol == "5" else REPLY)
        await system.wait_reply("set p0", "ok")
        await system.set_person("p2")
        await system.wait_reply("set p2", "ok")
        assert set(terminal.persons) == {"p1", "p2"}
        assert set(await system.list_persons("all")) == {"p1", "p2"}


async def test_a_redelivered_change_is_recognised_after_a_restart_of_the_broker(tmp_path: Path) -> None:
    async with (
        OneWayLink().running() as link,
        bridge_system(tmp_path, link=link) as system,
        system.terminal_connected() as terminal,
    ):
        await system.set_person("p1")
        await system.wait_reply("set p1", "ok")
        link.hold_back()
        await system.set_person("p0")
        await until(lambda: "p0" in terminal.persons)
        purged = await facebridge_process(tmp_path, "persons", "purge", "p0", "-c", "config.yaml")
        assert purged.code == 0, purged.stderr
        await system.bridge.kill()
        await system.stop_broker()
        link.reset()
        await system.start_broker()
        await system.bridge.start()
        await system.wait_reply("set p0", "ok")
        await system.set_person("p2")
        await system.wait_reply("set p2", "ok")
        assert set(terminal.persons) == {"p1", "p2"}


async def test_an_equal_change_in_a_new_session_is_applied(tmp_path: Path) -> None:
    """A broker that has lost its session begins again with the first packet id."""
    async with (
        OneWayLink().running() as link,
        bridge_system(tmp_path, link=link) as system,
        system.terminal_connected() as terminal,
    ):
        await system.set_person("p0")
        await system.wait_reply("set p0", "ok")
        purged = await facebridge_process(tmp_path, "persons", "purge", "p0", "-c", "config.yaml")
        assert purged.code == 0, purged.stderr
        await system.bridge.kill()
        await system.stop_broker()
        (tmp_path / "broker" / "mosquitto.db").unlink()
        await system.start_broker()
        await system.bridge.start()
        await system.wait_online()
        # The bridge does not get the first delivery: it is killed before, and the broker delivers the change again.
        system.bridge.freeze()
        await system.set_person("p0")
        await system.bridge.kill()
        await system.bridge.start()
        await system.wait_reply("set p0", "ok")
        await until(lambda: "p0" in terminal.persons)


async def test_redelivery_does_not_undo_the_removal_of_everyone(tmp_path: Path) -> None:
    async with (
        OneWayLink().running() as link,
        bridge_system(tmp_path, link=link) as system,
        system.terminal_connected() as terminal,
    ):
        await system.set_person("p0")
        await system.wait_reply("set p0", "ok")
        link.hold_back()
        await system.set_person("p1")
        await system.remove_everyone("everyone")
        await system.set_person("p2")
        await until(lambda: set(terminal.persons) == {"p2"})
        await kill_before_acknowledgements_arrive(system, link)
        await system.set_person("p3")
        await system.wait_reply("set p3", "ok")
        await system.wait_reply("set p2", "ok")
        assert set(terminal.persons) == {"p2", "p3"}
        assert set(await system.list_persons("all")) == {"p2", "p3"}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("is_killed", [True, False], ids=["bridge killed", "link broken"])
async def test_a_redelivered_forget_does_not_drop_what_came_after_it(
    tmp_path: Path, protocol: str, is_killed: bool
) -> None:
    """The persons of the terminal that was approved again are recognised, so they would not come back."""
    async with OneWayLink().running() as link, bridge_system(tmp_path, link=link, protocol=protocol) as system:
        bridge = "facebridge/bridge"
        await system.client.publish(f"{bridge}/admit/set", {"sn": "T2", "name": "Old", "request_id": "first"})
        await system.wait_reply("first", "ok", topic=f"{bridge}/reply")
        link.hold_back()
        await system.client.publish(f"{bridge}/forget/set", {"sn": "T2", "request_id": "forget"})
        await system.client.publish(f"{bridge}/admit/set", {"sn": "T2", "name": "New", "request_id": "admit"})
        change = {"id": "p1", "name": "Ada", "photo": PHOTO, "request_id": "set"}
        await system.client.publish("facebridge/terminal/T2/person/set", change)
        # The bridge's replies are held back too.
        await until(lambda: "setPerson of p1 on T2 (New): accepted" in system.bridge.log)
        if is_killed:
            await kill_before_acknowledgements_arrive(system, link)
        else:
            system.client.heard.clear()
            link.reset()
        for request_id in ("forget", "admit"):
            await system.wait_reply(request_id, "ok", topic=f"{bridge}/reply")
        await system.client.publish("facebridge/terminal/T2/person/get", {"request_id": "get"})
        listed = await system.wait_reply("get", "ok", topic="facebridge/terminal/T2/reply")
        assert [person["id"] for person in listed.json["persons"]] == ["p1"]


async def test_link_to_the_broker_breaks_after_the_commit(tmp_path: Path) -> None:
    """The bridge goes on running: an acknowledgement of the broken connection must not count on the next one."""
    async with (
        OneWayLink().running() as link,
        bridge_system(tmp_path, link=link) as system,
        system.terminal_connected() as terminal,
    ):
        link.hold_back()
        for number in range(4):
            await system.set_person("p0", f"name {number}", name=f"Name {number}", photo=PHOTO)
        await until(lambda: "p0" in terminal.persons and terminal.persons["p0"].name == "Name 3")
        system.client.heard.clear()
        link.reset()
        await system.wait_reply("name 3", "ok")
        await system.set_person("p1")
        await system.wait_reply("set p1", "ok")
        assert terminal.persons["p0"].name == "Name 3"
        assert (await system.list_persons("all"))["p0"]["name"] == "Name 3"


async def test_same_message_published_twice(tmp_path: Path) -> None:
    """A publisher does that if it did not receive the broker's acknowledgement."""
    async with bridge_system(tmp_path) as system, system.terminal_connected() as terminal:
        for _ in range(2):
            await system.set_person("p0")
            await system.set_person("p0", "rename", name="Ada")
            await system.remove_person("p1", "remove p1")
        await until(lambda: system.outcomes("remove p1").count("accepted") == 2)
        await system.set_person("p1")
        await system.wait_reply("set p1", "ok")
        assert {person.id: person.name for person in terminal.persons.values()} == {"p0": "Ada", "p1": "Name of p1"}
        for request_id in ("set p0", "rename", "remove p1"):
            assert system.outcomes(request_id).count("accepted") == 2
            last = [outcome for outcome in system.outcomes(request_id) if outcome in ("ok", "superseded")]
            assert len(last) == 2, f"one final reply for each of the two: {request_id}"
