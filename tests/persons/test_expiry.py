"""Persons are removed from terminals and groups some days after they have expired; others are not."""

from datetime import UTC, datetime
from pathlib import Path

from bridge.core.ports import PersonCommand
from bridge.model.commands import SetPersons
from bridge.model.events import CommandReplied
from bridge.persons.maintenance import ExpiryJob
from bridge.store.group_queries import kept_page
from bridge.store.person_queries import expired
from bridge.store.photos import PLAIN, read_photo
from tests.persons.person_system import ORIGIN, OTHER_PHOTO, PersonSystem, person, person_system, sent
from tests.support.core import ManualClock, known_terminal
from tests.support.waiting import until

DAY = 86400.0


def expiry(system: PersonSystem, days: int) -> ExpiryJob:
    return ExpiryJob(system.transactions, days)


async def test_expired_persons_are_removed_from_every_terminal_and_others_stay(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        for sn in ("T1", "T2"):
            await system.set(
                person("past", valid_until="2026-11-14"),
                person("lately", valid_until="2026-11-23"),
                person("later", valid_until="2026-12-24"),
                person("always"),
                person("off", valid_until="2026-11-01", enabled=False),
                sn=sn,
            )
        connection = system.connect()
        await system.settled()
        replies: list[CommandReplied] = []
        system.events.subscribe(CommandReplied, replies.append, name="test")
        await expiry(system, 7).remove_expired()
        await system.settled()
        assert sent(connection)[-2:] in (["remove off", "remove past"], ["remove past", "remove off"])
        for sn in ("T1", "T2"):
            assert set(await system.delivery(sn)) == {"lately", "later", "always"}
        assert {(one.reply.sn, one.reply.person_id, one.reply.outcome.value) for one in replies} == {
            (sn, person_id, "accepted") for sn in ("T1", "T2") for person_id in ("past", "off")
        }
        assert {one.origin.source for one in replies} == {"persons.remove_expired"}


async def test_expired_persons_are_removed_at_the_start_if_configured(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("past", valid_until="2026-11-01"))
    async with person_system(tmp_path) as system:
        assert await system.delivery() == {"past": "pending"}
    async with person_system(tmp_path, remove_expired=0) as system:
        await until(lambda: system.person_service.counts("T1").desired == 0)
        assert await system.delivery() == {}


async def test_a_person_whose_time_was_extended_stays(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1", valid_until="2026-11-01"))
        stale = await system.read(expired, datetime(2026, 11, 24, tzinfo=UTC), 10)
        await system.set({"id": "p1", "valid_until": "2027-11-01"})
        await expiry(system, 0).remove("T1", [person_id for _, person_id in stale])
        assert stale
        assert await system.delivery() == {"p1": "pending"}


async def test_many_at_once(tmp_path: Path) -> None:
    clock = ManualClock()
    async with person_system(tmp_path, clock=clock) as system:
        await system.set(*(person(f"p{number}", valid_until="2026-11-24T09:00Z") for number in range(250)))
        await expiry(system, 1).remove_expired()
        assert len(await system.delivery()) == 250
        clock.seconds += DAY + 3601
        await expiry(system, 1).remove_expired()
        assert await system.delivery() == {}


async def test_expired_persons_leave_groups_and_terminals_that_join_do_not_get_them(tmp_path: Path) -> None:
    async with person_system(tmp_path, terminals=[known_terminal("T1", groups=("staff",))]) as system:

        async def put(group: str, *persons: dict[str, object]) -> None:
            command = PersonCommand(group=group, sns=("T1",), change=SetPersons(persons=persons), origin=ORIGIN)
            await system.person_service.change([command])

        await put("staff", person("past", valid_until="2026-11-14"), person("always"))
        await put("all", *(person(f"p{number}", valid_until="2026-11-14") for number in range(120)))
        # The terminal's own time is later.
        await system.set({"id": "past", "valid_until": "2026-12-24"})
        await expiry(system, 7).remove_expired()
        assert system.person_service.group_sizes() == {"staff": 1}
        assert set(await system.delivery()) == {"past", "always"}
        system.registry.put(known_terminal("T2", groups=("staff",)))
        await system.person_service.follow_groups("T2")
        await until(lambda: system.person_service.counts("T2").desired == 1)
        assert set(await system.delivery("T2")) == {"always"}


async def test_a_photo_is_deleted_once_neither_a_terminal_nor_a_group_needs_it(tmp_path: Path) -> None:
    async with person_system(tmp_path, terminals=[known_terminal("T1", groups=("staff",))]) as system:
        change = SetPersons(persons=(person("p1", valid_until="2026-11-14", photo=OTHER_PHOTO),))
        command = PersonCommand(group="staff", sns=("T1",), change=change, origin=ORIGIN)
        await system.person_service.change([command])
        (kept,) = await system.read(kept_page, "staff", "", 10)
        system.connect()
        await system.settled()
        await system.remove("p1")
        await system.settled()
        assert await system.read(read_photo, PLAIN, kept.person.photo) is not None
        await expiry(system, 7).remove_expired()
        assert await system.read(read_photo, PLAIN, kept.person.photo) is None
