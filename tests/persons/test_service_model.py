"""The persons' service against a plain dict: after any sequence of requests, restarts and disconnections the terminal
holds the wanted persons, and every request has got its final reply."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from bridge.model.reply import Outcome
from bridge.model.terminal import PersonCounts
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import RemovePersonRequest, SetPersonRequest, decode_request
from bridge.store.person_queries import counts as stored_counts
from tests.persons.person_system import PersonSystem, person, person_system
from tests.support.core import RecordingConnection
from tests.support.postgresql import PostgreSQL

IDS = st.sampled_from(["p1", "p2", "p3"])
NAMES = st.sampled_from(["Ann", "Bo", "Cleo"])

# Every step waits for the disk, which Hypothesis would take for slow data.
SETTINGS = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class PersonModel(RuleBasedStateMachine):
    """`wanted` has the persons of the requests, `held` those of the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.system: PersonSystem | None = None
        self.stack = AsyncExitStack()
        self.connection: RecordingConnection | None = None
        self.wanted: dict[str, tuple[str, bool]] = {}
        self.held: dict[str, str] = {}
        self.requested: list[str] = []

    @initialize()
    def start(self) -> None:
        async def open_system() -> PersonSystem:
            return await self.stack.enter_async_context(person_system(self.place()))

        self.system = self.runner.run(open_system())

    def place(self) -> Path | str:
        """Return the place of the store."""
        return Path(self.folder.name)

    @rule(person_id=IDS, name=NAMES)
    def set_person(self, person_id: str, name: str) -> None:
        assert self.run_set(person(person_id, name=name)) is Outcome.ACCEPTED
        self.wanted[person_id] = (name, self.wanted.get(person_id, ("", True))[1])

    @rule(person_id=IDS, name=NAMES)
    def rename(self, person_id: str, name: str) -> None:
        if person_id in self.wanted:
            assert self.run_set({"id": person_id, "name": name}) is Outcome.ACCEPTED
            self.wanted[person_id] = (name, self.wanted[person_id][1])
        else:
            assert self.run_set({"id": person_id, "name": name}) is Outcome.INVALID
            self.requested.pop()

    @precondition(lambda self: self.wanted)
    @rule(data=st.data(), enabled=st.booleans())
    def enable(self, data: st.DataObject, enabled: bool) -> None:
        person_id = data.draw(st.sampled_from(sorted(self.wanted)))
        assert self.run_set({"id": person_id, "enabled": enabled}) is Outcome.ACCEPTED
        self.wanted[person_id] = (self.wanted[person_id][0], enabled)

    @rule(person_id=IDS)
    def remove(self, person_id: str) -> None:
        self.runner.run(self.get().remove(person_id, request_id=self.request_id()))
        self.wanted.pop(person_id, None)

    @rule()
    def remove_everyone(self) -> None:
        self.runner.run(self.get().remove_everyone(request_id=self.request_id()))
        self.wanted.clear()

    @rule(clear=st.booleans())
    def sync(self, clear: bool) -> None:
        self.runner.run(self.get().sync(request_id=self.request_id(), clear=clear))

    @rule()
    def connect(self) -> None:
        self.run_connect(self.obey)

    @rule()
    def connect_but_never_answer(self) -> None:
        self.run_connect(self.obey_silently)

    @precondition(lambda self: self.connection is not None)
    @rule()
    def disconnect(self) -> None:
        async def reset(connection: RecordingConnection) -> None:
            connection.reset("gone")

        assert self.connection is not None
        self.runner.run(reset(self.connection))
        self.connection = None

    @precondition(lambda self: self.connection is not None)
    @rule()
    def settle(self) -> None:
        self.connect()
        self.runner.run(self.get().settled())

    @rule()
    def restart(self) -> None:
        self.runner.run(self.stack.aclose())
        self.connection = None
        self.start()

    def teardown(self) -> None:
        try:
            if self.system is not None:
                self.check_the_end()
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()
            self.folder.cleanup()

    def check_the_end(self) -> None:
        self.connect()
        self.runner.run(self.get().settled())
        assert self.held == {person_id: name for person_id, (name, enabled) in self.wanted.items() if enabled}
        assert self.runner.run(self.get().delivery()) == dict.fromkeys(sorted(self.wanted), "confirmed")
        counts = self.get().person_service.counts("T1")
        assert (counts.desired, counts.confirmed, counts.refused) == (len(self.held), len(self.held), 0)
        assert self.runner.run(self.get().read(stored_counts)).get("T1", PersonCounts()) == counts
        outcomes = self.runner.run(self.get().final_outcomes(len(self.requested)))
        assert sorted(request_id or "" for request_id, _, _ in outcomes) == sorted(self.requested)

    def run_connect(self, answer: Callable[[str], TerminalReply | None]) -> None:
        async def connect() -> None:
            self.connection = self.get().connect(answer=answer)

        self.runner.run(connect())

    def get(self) -> PersonSystem:
        assert self.system is not None
        return self.system

    def run_set(self, value: object) -> Outcome:
        (outcome,) = self.runner.run(self.get().set(value, request_id=self.request_id()))
        return outcome

    def request_id(self) -> str:
        self.requested.append(str(len(self.requested)))
        return self.requested[-1]

    def obey(self, msgid: str) -> TerminalReply | None:
        assert self.connection is not None
        request = decode_request(self.connection.frames[-1])
        if isinstance(request, SetPersonRequest):
            self.held[request.person.id] = request.person.name
        elif isinstance(request, RemovePersonRequest):
            for person_id in request.ids or tuple(self.held):
                self.held.pop(person_id, None)
        return TerminalReply(msgid, None, 0, "ok")

    def obey_silently(self, msgid: str) -> TerminalReply | None:
        self.obey(msgid)
        return None


@pytest.mark.slow
def test_the_model_on_postgresql(postgresql: PostgreSQL) -> None:
    class OnPostgreSQL(PersonModel):
        def __init__(self) -> None:
            super().__init__()
            self.url = self.runner.run(postgresql.new_url())

        def place(self) -> Path | str:
            return self.url

    run_state_machine_as_test(OnPostgreSQL, settings=SETTINGS)


TestPersonModel = PersonModel.TestCase
TestPersonModel.settings = SETTINGS
