"""Groups against a small model: after any history the store and the terminals hold what the contract says.

Histories mix sets, partial sets, removals, joins, leaves, forgotten terminals, restarts with other memberships, and
crashes in the middle of a change of memberships.
"""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import Connection

from bridge.core.ports import PersonCommand
from bridge.model.commands import PersonChange, RemovePersons, SetPersons
from bridge.protocol.requests import RemovePersonRequest, SetPersonRequest
from bridge.store import group_queries
from tests.persons.person_system import ORIGIN, PersonSystem, person, person_system, requests
from tests.support.core import known_terminal

SNS = ("T1", "T2", "T3")
GROUPS = ("a", "b")
SCOPES = (*GROUPS, "all")
PERSONS = ("p1", "p2", "p3")

sns = st.sampled_from(SNS)
scopes = st.sampled_from(SCOPES)
person_ids = st.sampled_from(PERSONS)
names = st.sampled_from(["Ann", "Bo", "Cleo"])
memberships = st.sets(st.sampled_from(GROUPS)).map(frozenset)


@dataclass
class Held:
    """A person on a terminal or in a group, as the model has it."""

    name: str
    enabled: bool = True
    access: set[str] = field(default_factory=set)
    changed: int = 0

    def copy(self, access: set[str]) -> "Held":
        return Held(self.name, self.enabled, set(access))


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

    def set(self, place: dict[str, Held], person_id: str, name: str, scope: str) -> None:
        before = place.get(person_id)
        held = Held(name, before.enabled if before else True, {*(before.access if before else ()), scope})
        held.changed = next(self._numbers)
        place[person_id] = held

    def enable(self, place: dict[str, Held], person_id: str, *, enabled: bool) -> None:
        if person_id in place:
            place[person_id].enabled = enabled
            place[person_id].changed = next(self._numbers)


class GroupModel(RuleBasedStateMachine):
    """Runs a history on a real store and on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.model = Model()
        self.stack = AsyncExitStack()
        self.starts = 0
        self.system: PersonSystem

    @initialize(first=memberships, second=memberships)
    def start(self, first: frozenset[str], second: frozenset[str]) -> None:
        # One person for each batch, so that commands come in the middle of a change of memberships.
        self.stack.enter_context(patch("bridge.persons.batches.MEMBERSHIP_ROWS", 1))
        self.stack.enter_context(patch("bridge.persons.batches.BATCH_SECONDS", 0))
        (Path(self.folder.name) / "0").mkdir()
        self.runner.run(self.open({"T1": first, "T2": second}))

    async def open(self, groups: dict[str, frozenset[str]]) -> None:
        place = Path(self.folder.name) / str(self.starts)
        for sn in SNS:
            self.model.follow(sn, groups.get(sn))
        self.system = await self.stack.enter_async_context(
            person_system(place, terminals=[known_terminal(sn, groups=tuple(sorted(groups[sn]))) for sn in groups])
        )

    def change(self, change: PersonChange, *, sn: str | None = None, group: str | None = None) -> list[str]:
        addressed = (sn,) if sn is not None else tuple(self.model.members_of(group or ""))
        command = PersonCommand(sn=sn, group=group, sns=tuple(addressed), change=change, origin=ORIGIN)
        (replies,) = self.runner.run(self.system.person_service.change([command]))
        return [reply.outcome.value for reply in replies]

    @rule(sn=sns, person_id=person_ids, name=names)
    def set_on_terminal(self, sn: str, person_id: str, name: str) -> None:
        if sn not in self.model.members:
            return
        assert self.change(SetPersons(persons=[person(person_id, name=name)]), sn=sn) == ["accepted"]
        self.model.set(self.model.terminals[sn], person_id, name, "terminal")

    @rule(sn=sns, person_id=person_ids, enabled=st.booleans())
    def enable_on_terminal(self, sn: str, person_id: str, *, enabled: bool) -> None:
        if sn not in self.model.members:
            return
        is_held = person_id in self.model.terminals[sn]
        outcome = self.change(SetPersons(persons=[{"id": person_id, "enabled": enabled}]), sn=sn)
        assert outcome == ["accepted" if is_held else "invalid"]
        self.model.enable(self.model.terminals[sn], person_id, enabled=enabled)

    @rule(group=scopes, person_id=person_ids, name=names)
    def set_on_group(self, group: str, person_id: str, name: str) -> None:
        members = self.model.members_of(group)
        if not members:
            return
        self.change(SetPersons(persons=[person(person_id, name=name)]), group=group)
        for sn in members:
            self.model.set(self.model.terminals[sn], person_id, name, group)
        self.model.set(self.model.groups[group], person_id, name, group)

    @rule(group=scopes, person_id=person_ids, enabled=st.booleans())
    def enable_on_group(self, group: str, person_id: str, *, enabled: bool) -> None:
        members = self.model.members_of(group)
        if not members:
            return
        self.change(SetPersons(persons=[{"id": person_id, "enabled": enabled}]), group=group)
        for sn in members:
            self.model.enable(self.model.terminals[sn], person_id, enabled=enabled)
        self.model.enable(self.model.groups[group], person_id, enabled=enabled)

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
        self.system.registry.remove(sn)
        self.runner.run(self.system.person_service.forget(sn))
        self.model.follow(sn, None)
        self.model.terminals[sn].clear()

    @rule(groups=st.dictionaries(sns, memberships, min_size=1))
    def restart_with_other_groups(self, groups: dict[str, frozenset[str]]) -> None:
        self.runner.run(self.restart(groups))

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
        patches, self.stack = self.stack, AsyncExitStack()
        await patches.aclose()
        self.stack.enter_context(patch("bridge.persons.batches.MEMBERSHIP_ROWS", 1))
        self.stack.enter_context(patch("bridge.persons.batches.BATCH_SECONDS", 0))
        await self.open(groups)

    @rule()
    def compare(self) -> None:
        self.runner.run(self.compare_with_the_model())

    async def compare_with_the_model(self) -> None:
        def unfinished(connection: Connection) -> bool:
            return bool(group_queries.membership_jobs(connection) or group_queries.group_removals(connection))

        async with asyncio.timeout(30):
            while await self.system.read(unfinished):
                await asyncio.sleep(0.001)
        for sn in SNS:
            stored = {
                one["id"]: (one["name"], one["enabled"], set(one["access"]))
                for one in await self.system.persons(sn)
                if one["wanted"] != "removed"
            }
            modelled = {
                person_id: (held.name, held.enabled, held.access)
                for person_id, held in self.model.terminals[sn].items()
            }
            assert stored == modelled, sn
        for group in SCOPES:
            page = await self.system.read(group_queries.kept_page, group, "", 100)
            assert {one.person.id: (one.person.name, one.person.enabled) for one in page} == {
                person_id: (held.name, held.enabled) for person_id, held in self.model.groups[group].items()
            }, group
            assert self.system.person_service.group_size(group) == len(page)

    async def compare_with_the_devices(self) -> None:
        """Connect every known terminal, empty as after a reset of the device, and let it confirm everything."""
        for sn in self.model.members:
            await self.system.sync(sn=sn)
            connection = self.system.connect(sn)
            await self.system.settled(sn)
            held: dict[str, str] = {}
            for request in requests(connection):
                if isinstance(request, SetPersonRequest):
                    held[request.person.id] = request.person.name
                elif isinstance(request, RemovePersonRequest):
                    for person_id in request.ids or tuple(held):
                        held.pop(person_id, None)
            wanted = {one: each.name for one, each in self.model.terminals[sn].items() if each.enabled}
            assert held == wanted, sn

    def teardown(self) -> None:
        try:
            if hasattr(self, "system"):
                self.runner.run(self.compare_with_the_model())
                self.runner.run(self.compare_with_the_devices())
                self.runner.run(self.stack.aclose())
        finally:
            self.runner.close()
            self.folder.cleanup()


def run_histories(number: int) -> None:
    # Every step waits for the disk, which Hypothesis would take for slow data.
    run_state_machine_as_test(
        GroupModel,
        settings=settings(
            max_examples=number, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


def test_a_few_histories() -> None:
    run_histories(25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_histories() -> None:
    run_histories(300)
