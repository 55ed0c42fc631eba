"""Groups against a small model: after any history the store and the terminals hold what the contract says.

Histories mix sets of several persons, partial sets, removals, syncs, joins, leaves, forgotten terminals, restarts with
other memberships, crashes in the middle of changes of groups or memberships, and terminals that connect in between.
"""

import asyncio
import sqlite3
from base64 import b64decode
from collections import Counter
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, select

from bridge.core.ports import PersonCommand
from bridge.model.commands import PersonChange, RemovePersons, SetPersons, SyncPersons
from bridge.model.events import TerminalForgotten
from bridge.model.person import ALWAYS, Person
from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.persons.preparation import PhotoPreparer
from bridge.persons.weekly import parse_weekly
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import RemovePersonRequest, SetPersonRequest, decode_request
from bridge.store import group_change_queries, group_queries
from bridge.store import person_queries as queries
from bridge.store.person_names import stored_name
from bridge.store.tables import GROUP_CHANGE_PERSON, GROUP_PERSON, PERSON_ENTRY, PERSON_NAME
from bridge.store.tables import PHOTO as PHOTOS
from tests.persons.person_system import ORIGIN, OTHER_PHOTO, PHOTO, PersonSystem, person_system
from tests.support.core import RecordingConnection, known_terminal
from tests.support.postgresql import PostgreSQL

SNS = ("T1", "T2", "T3")
GROUPS = ("a", "b")
SCOPES = (*GROUPS, "all")
PERSONS = ("p1", "p2", "p3")
HOURS = {"default": "08:00-17:00"}

sns = st.sampled_from(SNS)
scopes = st.sampled_from(SCOPES)
person_ids = st.sampled_from(PERSONS)
memberships = st.sets(st.sampled_from(GROUPS)).map(frozenset)

NAMES = st.sampled_from(["Ann", "Bo", "Cleo"])
OTHER_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "enabled": st.booleans(),
    "weekly": st.sampled_from([None, HOURS]),
    "valid_until": st.sampled_from([None, "2030-01-01T00:00:00Z"]),
}
COMPLETE = st.fixed_dictionaries(
    {"id": person_ids, "name": NAMES, "photo": st.sampled_from([PHOTO, OTHER_PHOTO])}, optional=OTHER_FIELDS
)
PARTIAL = st.fixed_dictionaries({"id": person_ids}, optional={"name": NAMES, **OTHER_FIELDS})
given_persons = st.lists(st.one_of(COMPLETE, PARTIAL), min_size=1, max_size=3)


@dataclass
class Held:
    """A person on a terminal or in a group, as the model has it."""

    fields: dict[str, Any] = field(default_factory=dict)
    access: set[str] = field(default_factory=set)
    changed: int = 0

    def copy(self, access: set[str]) -> "Held":
        return Held(dict(self.fields), set(access))


@dataclass
class OnDevice:
    """A person on a device: it keeps the weekly rule if a frame has none, which the protocol does not exclude."""

    name: str
    end: float
    weekly: dict[str, str] | None


class SharedPhotos(PhotoPreparer):
    """Prepares the photos of all histories: its processes take longer to start than a history takes."""

    def close(self) -> None:
        """Stay open; `end` closes it."""

    def end(self) -> None:
        super().close()


class Model:
    """What the contract says, without a store, jobs and batches."""

    def __init__(self) -> None:
        self.members: dict[str, frozenset[str]] = {}
        self.terminals: dict[str, dict[str, Held]] = {sn: {} for sn in SNS}
        self.groups: dict[str, dict[str, Held]] = {group: {} for group in SCOPES}
        self._numbers = count(1)

    def members_of(self, group: str) -> list[str]:
        return [sn for sn in self.members if group == "all" or group in self.members[sn]]

    def follow(self, sn: str, groups: frozenset[str] | None) -> None:
        """Let a terminal be in these groups and in `all`; None: it is not known any more."""
        before = self.members.get(sn, None)
        old = set() if before is None else {*before, "all"}
        new = set() if groups is None else {*groups, "all"}
        persons = self.terminals[sn]
        for person_id, held in list(persons.items()):
            if held.access & (old - new):
                held.access -= old - new
                if not held.access:
                    del persons[person_id]
        joining = [
            (kept.changed, group, person_id) for group in new - old for person_id, kept in self.groups[group].items()
        ]
        for _, group, person_id in sorted(joining):
            access = persons[person_id].access if person_id in persons else set()
            persons[person_id] = self.groups[group][person_id].copy({*access, group})
        if groups is None:
            self.members.pop(sn, None)
        else:
            self.members[sn] = groups

    def set(self, place: dict[str, Held], given: dict[str, Any], scope: str) -> str:
        """Set a person on a terminal or in a group; return the outcome there."""
        is_complete = "name" in given and "photo" in given
        before = place.get(given["id"])
        if before is None and not is_complete:
            return "invalid"
        held = Held() if before is None else before
        held.fields |= {name: value for name, value in given.items() if name != "id"}
        held.changed = next(self._numbers)
        if is_complete:
            held.access.add(scope)
        place[given["id"]] = held
        return "accepted"


def comparable(fields: dict[str, Any]) -> tuple[Any, ...]:
    """Return the fields of a person in the model, to compare them with those in the store."""
    return (
        fields["name"],
        # The sample photos are stored as they are.
        sha256(b64decode(fields["photo"])).hexdigest(),
        fields.get("enabled", True),
        fields.get("weekly") is not None,
        fields.get("valid_until") is not None,
    )


class GroupModel(RuleBasedStateMachine):
    """Runs a history on a real store, on devices, and on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.model = Model()
        self.stack = AsyncExitStack()
        self.starts = 0
        self.system: PersonSystem
        self.devices: dict[str, dict[str, OnDevice]] = {sn: {} for sn in SNS}
        self.connections: dict[str, RecordingConnection] = {}
        self.accepted: Counter[tuple[str | None, str | None, str | None]] = Counter()
        self._request_ids = count(1)

    can_crash = True
    photos: SharedPhotos

    # With 0 every change of a group is a job.
    @initialize(first=memberships, second=memberships, direct_rows=st.sampled_from([0, 0, 2, 100]))
    def start(self, first: frozenset[str], second: frozenset[str], direct_rows: int) -> None:
        self.direct_rows = direct_rows
        (Path(self.folder.name) / "0").mkdir()
        self.runner.run(self.open({"T1": first, "T2": second}))

    def place(self) -> Path | str:
        """Return the place of the store."""
        return Path(self.folder.name) / str(self.starts)

    async def open(self, groups: dict[str, frozenset[str]]) -> None:
        # One person for each batch, so that commands come in the middle of a change of memberships.
        self.stack.enter_context(patch("bridge.persons.batches.MEMBERSHIP_ROWS", 1))
        self.stack.enter_context(patch("bridge.persons.batches.CHANGE_ROWS", 1))
        self.stack.enter_context(patch("bridge.persons.batches.BATCH_SECONDS", 0))
        for module in ("transactions", "earlier_jobs"):
            self.stack.enter_context(patch(f"bridge.persons.{module}.DIRECT_ROWS", self.direct_rows))
        for sn in SNS:
            self.model.follow(sn, groups.get(sn))
        terminals = [known_terminal(sn, groups=tuple(sorted(groups[sn]))) for sn in groups]
        self.system = await self.stack.enter_async_context(
            person_system(self.place(), terminals=terminals, photos=self.photos)
        )

    def change(self, change: PersonChange, *, sn: str | None = None, group: str | None = None) -> list[str]:
        addressed = (sn,) if sn is not None else tuple(self.model.members_of(group or ""))
        change = replace(change, request_id=str(next(self._request_ids)))
        command = PersonCommand(sn=sn, group=group, sns=tuple(addressed), change=change, origin=ORIGIN)
        (replies,) = self.runner.run(self.system.person_service.change([command]))
        self.accepted.update(
            (reply.request_id, reply.sn, reply.person_id) for reply in replies if reply.outcome is Outcome.ACCEPTED
        )
        return [reply.outcome.value for reply in replies]

    @rule(sn=sns)
    def connect(self, sn: str) -> None:
        if sn in self.model.members:
            self.runner.run(self.connect_device(sn))

    @rule(sn=sns)
    def connect_and_answer_nothing(self, sn: str) -> None:
        if sn in self.model.members:
            self.runner.run(self.connect_device(sn, answers=False))

    @rule(sn=sns)
    def disconnect(self, sn: str) -> None:
        self.runner.run(self.reset_connection(sn))

    @rule()
    def wait(self) -> None:
        """Let jobs and deliveries go on."""
        self.runner.run(asyncio.sleep(0.01))

    @rule(sn=sns)
    def reset_device(self, sn: str) -> None:
        if sn in self.model.members:
            self.devices[sn].clear()
            self.change(SyncPersons(), sn=sn)

    async def connect_device(self, sn: str, *, answers: bool = True) -> None:
        def obey(msgid: str) -> TerminalReply | None:
            request = decode_request(connection.frames[-1])
            device = self.devices[sn]
            if isinstance(request, SetPersonRequest):
                person = request.person
                before = device.get(person.id)
                weekly = person.weekly if person.weekly is not None or before is None else before.weekly
                device[person.id] = OnDevice(
                    person.name, float(person.end_ts), None if weekly is None else dict(weekly)
                )
            elif isinstance(request, RemovePersonRequest):
                for person_id in request.ids or tuple(device):
                    device.pop(person_id, None)
            return TerminalReply(msgid, None, 0, "ok") if answers else None

        await self.reset_connection(sn)
        connection = self.connections[sn] = RecordingConnection(self.system.registry, sn, obey)
        self.system.registry.connected(connection)

    async def reset_connection(self, sn: str) -> None:
        connection = self.connections.pop(sn, None)
        if connection is not None:
            connection.reset("gone")

    @rule(sn=sns, given=given_persons)
    def set_on_terminal(self, sn: str, given: list[dict[str, Any]]) -> None:
        if sn in self.model.members:
            outcomes = self.change(SetPersons(persons=given), sn=sn)
            assert outcomes == [self.model.set(self.model.terminals[sn], one, "terminal") for one in given]

    @rule(group=scopes, given=given_persons)
    def set_on_group(self, group: str, given: list[dict[str, Any]]) -> None:
        members = self.model.members_of(group)
        if members:
            outcomes = self.change(SetPersons(persons=given), group=group)
            assert outcomes == [self.model.set(self.model.terminals[sn], one, group) for sn in members for one in given]
            for one in given:
                self.model.set(self.model.groups[group], one, group)

    @rule(sn=sns, clear=st.booleans())
    def sync_terminal(self, sn: str, *, clear: bool) -> None:
        if sn in self.model.members:
            self.change(SyncPersons(clear=clear), sn=sn)

    @rule(group=scopes, clear=st.booleans())
    def sync_group(self, group: str, *, clear: bool) -> None:
        self.change(SyncPersons(clear=clear), group=group)

    @rule(sn=sns, person_id=st.none() | person_ids)
    def remove_from_terminal(self, sn: str, person_id: str | None) -> None:
        if sn not in self.model.members:
            return
        self.change(RemovePersons(ids=None if person_id is None else (person_id,)), sn=sn)
        self.remove(self.model.terminals[sn], person_id)

    @rule(group=scopes, person_id=st.none() | person_ids)
    def remove_from_group(self, group: str, person_id: str | None) -> None:
        self.change(RemovePersons(ids=None if person_id is None else (person_id,)), group=group)
        for place in (*(self.model.terminals[sn] for sn in self.model.members_of(group)), self.model.groups[group]):
            self.remove(place, person_id)

    def remove(self, place: dict[str, Held], person_id: str | None) -> None:
        if person_id is None:
            place.clear()
        else:
            place.pop(person_id, None)

    @rule(sn=sns, groups=memberships)
    def change_groups(self, sn: str, groups: frozenset[str]) -> None:
        self.system.registry.put(known_terminal(sn, groups=tuple(sorted(groups))))
        self.runner.run(self.system.person_service.follow_groups(sn))
        self.model.follow(sn, groups)

    @rule(sn=sns)
    def forget(self, sn: str) -> None:
        if sn not in self.model.members:
            return
        self.runner.run(self.reset_connection(sn))
        self.system.registry.remove(sn)
        self.runner.run(self.system.person_service.forget(sn))
        # As the admission does; the delivery drops what it knows of the terminal.
        self.system.events.publish(TerminalForgotten(at=self.system.clock.now(), sn=sn))
        self.model.follow(sn, None)
        self.model.terminals[sn].clear()
        # Another device takes its place.
        self.devices[sn].clear()

    @rule(groups=st.dictionaries(sns, memberships, min_size=1))
    def restart_with_other_groups(self, groups: dict[str, frozenset[str]]) -> None:
        self.runner.run(self.restart(groups))

    @precondition(lambda self: self.can_crash)
    @rule(groups=st.dictionaries(sns, memberships, min_size=1))
    def crash(self, groups: dict[str, frozenset[str]]) -> None:
        """Go on with the store as a `kill -9` leaves it: without what a clean stop does."""
        old, new = (Path(self.folder.name) / str(self.starts + number) for number in (0, 1))
        new.mkdir()
        with closing(sqlite3.connect(old / "store.db")) as source, closing(sqlite3.connect(new / "store.db")) as copy:
            source.backup(copy)
        self.starts += 1
        self.runner.run(self.restart(groups))

    async def restart(self, groups: dict[str, frozenset[str]]) -> None:
        for sn in tuple(self.connections):
            await self.reset_connection(sn)
        before, self.stack = self.stack, AsyncExitStack()
        await before.aclose()
        await self.open(groups)

    @rule()
    def compare(self) -> None:
        self.runner.run(self.compare_with_the_model())

    async def compare_with_the_model(self) -> None:
        await self.jobs_done()
        for sn in SNS:
            entries = await self.system.read(queries.page, sn, "", 100)
            stored = {
                one.person.id: (self.stored(one.person), {scope or "terminal" for scope in one.access})
                for one in entries
                if one.person is not None
            }
            assert stored == {
                person_id: (comparable(held.fields), held.access)
                for person_id, held in self.model.terminals[sn].items()
            }, sn
        for group in SCOPES:
            page = await self.system.read(group_queries.kept_page, group, "", 100)
            assert {one.person.id: self.stored(one.person) for one in page} == {
                person_id: comparable(held.fields) for person_id, held in self.model.groups[group].items()
            }, group
            assert self.system.person_service.group_size(group) == len(page)

    async def jobs_done(self) -> None:
        """Wait until no sync, removal of everyone, change of a group or of memberships is running."""

        def is_unfinished(connection: Connection) -> bool:
            return bool(
                group_queries.has_membership_jobs(connection)
                or group_change_queries.has_changes(connection)
                or group_queries.group_removals(connection)
                or queries.jobs(connection)
            )

        async with asyncio.timeout(30):
            while await self.system.read(is_unfinished):
                await asyncio.sleep(0.001)

    def stored(self, person: Person) -> tuple[Any, ...]:
        """Return the fields of a stored person, to compare them with those of the model."""
        assert person.weekly in (None, parse_weekly(HOURS))
        return person.name, person.photo, person.enabled, person.weekly is not None, person.valid_until is not None

    async def compare_with_the_devices(self) -> None:
        """Let every known terminal confirm everything, and compare what it holds; then once more after a reset."""
        for is_reset in (False, True):
            for sn in self.model.members:
                if is_reset:
                    self.devices[sn].clear()
                    await self.system.sync(sn=sn)
                await self.jobs_done()
                await self.connect_device(sn)
                await self.system.settled(sn)
                wanted = {one: each.fields for one, each in self.model.terminals[sn].items()}
                wanted = {one: fields for one, fields in wanted.items() if fields.get("enabled", True)}
                assert {one: (each.name, each.end > 0) for one, each in self.devices[sn].items()} == {
                    one: (fields["name"], fields.get("valid_until") is not None) for one, fields in wanted.items()
                }, sn
                for one, fields in wanted.items():
                    rule_on_device = self.devices[sn][one].weekly
                    rule = parse_weekly(fields.get("weekly"))
                    allowed = [None, ALWAYS.by_day()] if rule is None else [rule.by_day()]
                    assert rule_on_device in allowed, (sn, one)
                counts = await self.system.read(queries.counts, [sn])
                assert counts.get(sn, PersonCounts()) == self.system.person_service.counts(sn)

    async def check_final_replies(self) -> None:
        """Each accepted change of a terminal that is known at the end has got its final reply, and only one."""
        replies = [one.reply for one in await self.system.read(queries.final_replies, 0, 2**40, 100_000)]
        own = Counter((one.request_id, one.sn, one.person_id) for one in replies if one.request_id is not None)
        assert own <= self.accepted
        assert {key: number for key, number in self.accepted.items() if key[1] in self.model.members} == {
            key: number for key, number in own.items() if key[1] in self.model.members
        }
        for reply in replies:
            # The last syncs have no request id either.
            if reply.request_id is None and reply.command != "syncPersons":
                assert reply.message is not None
                assert reply.message.startswith(("joined group", "left group"))

    async def check_photos(self) -> None:
        """No photo is left that nothing refers to."""

        def unused(connection: Connection) -> set[str]:
            stored = set(connection.execute(select(PHOTOS.c.sha256)).scalars())
            for table in (PERSON_ENTRY, GROUP_PERSON, GROUP_CHANGE_PERSON):
                stored -= set(connection.execute(select(table.c.photo_sha256)).scalars())
            return stored

        assert await self.system.read(unused) == set()

    async def check_names(self) -> None:
        """A search finds the names that are stored, and no others."""

        def difference(connection: Connection) -> set[tuple[str, str]]:
            found = {tuple(row) for row in connection.execute(select(PERSON_NAME.c.person_id, PERSON_NAME.c.name))}
            stored: set[tuple[str, str]] = set()
            for table in (PERSON_ENTRY, GROUP_PERSON):
                rows = connection.execute(select(table.c.person_id, stored_name(table)))
                stored |= {(row[0], row[1]) for row in rows if row[0]}
            return found ^ stored

        assert await self.system.read(difference) == set()

    def teardown(self) -> None:
        try:
            if hasattr(self, "system"):
                self.runner.run(self.compare_with_the_model())
                self.runner.run(self.compare_with_the_devices())
                self.runner.run(self.check_final_replies())
                self.runner.run(self.check_photos())
                self.runner.run(self.check_names())
                self.runner.run(self.stack.aclose())
        finally:
            self.runner.close()
            self.folder.cleanup()


def run_histories(number: int, machine: type[GroupModel] = GroupModel) -> None:
    machine.photos = SharedPhotos(folders=(), max_bytes=1_000_000, size=None)
    try:
        # Every step waits for the disk, which Hypothesis would take for slow data.
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=number, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
            ),
        )
    finally:
        machine.photos.end()


@pytest.mark.timeout(300)
def test_a_few_histories() -> None:
    run_histories(25)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_histories() -> None:
    run_histories(300)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_histories_on_postgresql(postgresql: PostgreSQL) -> None:
    class OnPostgreSQL(GroupModel):
        can_crash = False

        def __init__(self) -> None:
            super().__init__()
            self.url = self.runner.run(postgresql.new_url())

        def place(self) -> Path | str:
            return self.url

    run_histories(20, OnPostgreSQL)
