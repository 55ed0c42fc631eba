"""Refused removals are listed, and tried again at each connection; other refused changes are not."""

from collections.abc import Callable
from pathlib import Path

from bridge.model.terminal import PersonCounts
from bridge.persons.batches import retry_refused_removals
from bridge.protocol.replies import TerminalReply
from tests.persons.person_system import PersonSystem, person, person_system, sent
from tests.support.waiting import until


def refuse(msgid: str) -> TerminalReply | None:
    return TerminalReply(msgid, None, 7, "busy")


def in_turn(*answers: int) -> Callable[[str], TerminalReply | None]:
    remaining = iter(answers)
    return lambda msgid: TerminalReply(msgid, None, next(remaining, 0), "answer")


async def refused(system: PersonSystem, number: int) -> None:
    await until(lambda: system.person_service.counts("T1").refused == number)


async def shown(system: PersonSystem) -> list[tuple[str | None, str, str, int | None, str | None]]:
    return [
        (one["id"], one["wanted"], one["delivery"], one["status"], one["message"]) for one in await system.persons("T1")
    ]


async def test_removals_that_are_not_confirmed_are_listed(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"), person("off", enabled=False))
        await system.remove("gone")
        assert await shown(system) == [
            ("gone", "removed", "pending", None, None),
            ("off", "disabled", "pending", None, None),
            ("p1", "present", "pending", None, None),
        ]
        (gone,) = await system.persons("T1", "gone")
        assert set(gone) == {"id", "wanted", "delivery", "status", "message", "changed_at", "access"}
        system.connect(answer=refuse)
        await refused(system, 3)
        assert await shown(system) == [
            ("gone", "removed", "refused", 7, "busy"),
            ("off", "disabled", "refused", 7, "busy"),
            ("p1", "present", "refused", 7, "busy"),
        ]


async def test_a_refused_removal_of_everyone_is_listed(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.remove_everyone()
        system.connect(answer=refuse)
        await refused(system, 1)
        assert await shown(system) == [(None, "removed", "refused", 7, "busy")]


async def test_refused_removals_are_tried_again_at_the_next_connection(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"), person("off", enabled=False))
        await system.remove("gone")
        first = system.connect(answer=refuse)
        await refused(system, 3)
        system.registry.disconnected(first, "test")
        connection = system.connect()
        await until(lambda: system.person_service.counts("T1") == PersonCounts(desired=1, refused=1))
        assert sorted(sent(connection)) == ["remove gone", "remove off"]
        assert await shown(system) == [
            ("off", "disabled", "confirmed", 0, "ok"),
            ("p1", "present", "refused", 7, "busy"),
        ]


async def test_refused_removals_are_tried_again_after_a_restart(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.remove("gone")
        system.connect(answer=refuse)
        await refused(system, 1)
    async with person_system(tmp_path, connected=["T1"]) as system:
        await until(lambda: system.person_service.counts("T1") == PersonCounts())


async def test_persons_are_sent_again_after_a_removal_of_everyone_that_succeeds_late(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.remove_everyone()
        # It refuses the removal of everyone, and accepts the person.
        first = system.connect(answer=in_turn(7, 0))
        await refused(system, 1)
        await system.set(person("p1"))
        await system.settled()
        system.registry.disconnected(first, "test")
        connection = system.connect()
        await until(lambda: sent(connection) == ["remove everyone", "set p1"])
        await until(lambda: system.person_service.counts("T1") == PersonCounts(desired=1, confirmed=1))


async def test_a_refused_removal_waits_for_its_next_attempt_as_pending(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.remove("gone", "also")
        connection = system.connect(answer=in_turn(7, 7))
        await refused(system, 2)
        assert await system.transactions.run(lambda transaction: retry_refused_removals(transaction, "T1")) == 2
        await until(lambda: system.person_service.counts("T1") == PersonCounts())
        assert sent(connection) == ["remove gone", "remove also", "remove gone", "remove also"]
