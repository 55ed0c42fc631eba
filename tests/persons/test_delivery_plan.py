"""What goes to a terminal next, over all that can be pending."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.persons.delivery.plan import (
    MAX_ATTEMPTS_FIRST,
    SLOW_INTERVAL,
    Attempts,
    Send,
    Wait,
    is_finished,
    next_start,
    next_step,
    repeat_seconds,
)

NOW = 1000.0

Situation = tuple[list[PersonEntry], set[int], dict[int, Attempts]]


def entry(revision: int, person_id: str | None = "", *, held: bool = False) -> PersonEntry:
    person_id = f"p{revision}" if person_id == "" else person_id
    return PersonEntry(
        sn="T1",
        person_id=person_id,
        revision=revision,
        person=Person(id=person_id or "", name="Ada", photo="ab" * 32) if held else None,
        delivery=DeliveryState.PENDING,
        confirmed_revision=None,
        status=None,
        message=None,
        changed_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    revisions = sorted(draw(st.sets(st.integers(1, 30), max_size=8)))
    removal = draw(st.sampled_from([*revisions, None]))
    entries = [
        entry(revision, None) if revision == removal else entry(revision, held=draw(st.booleans()))
        for revision in revisions
    ]
    answered = draw(st.sets(st.sampled_from(revisions))) if revisions else set()
    tried = draw(st.sets(st.sampled_from(revisions))) if revisions else set()
    tries = {
        revision: Attempts(draw(st.integers(1, 5)), draw(st.floats(NOW - 5, NOW + 5, allow_nan=False)))
        for revision in sorted(tried)
    }
    return entries, answered, tries


@given(situations(), st.integers(0, 2 * SLOW_INTERVAL))
def test_only_what_is_open_and_due_is_sent(situation: Situation, frames_since_slow: int) -> None:
    entries, answered, tries = situation
    step = next_step(entries, answered, tries, frames_since_slow, NOW)
    if isinstance(step, Send):
        assert step.revision in {one.revision for one in entries}
        assert step.revision not in answered
        assert step.revision not in tries or tries[step.revision].due <= NOW
    elif step.until is None:
        assert {one.revision for one in entries} <= answered
    else:
        assert step.until > NOW
        # Once it has come, there is something to send.
        assert isinstance(next_step(entries, answered, tries, frames_since_slow, step.until), Send)


@given(situations(), st.integers(0, 2 * SLOW_INTERVAL))
def test_nothing_passes_the_removal_of_everyone(situation: Situation, frames_since_slow: int) -> None:
    entries, answered, tries = situation
    step = next_step(entries, answered, tries, frames_since_slow, NOW)
    everyone = [one.revision for one in entries if one.person_id is None and one.revision not in answered]
    if everyone and isinstance(step, Send):
        assert [step.revision] == everyone


@given(situations())
def test_removals_go_first_then_the_oldest_changes(situation: Situation) -> None:
    entries, _, _ = situation
    answered: set[int] = set()
    sent = []
    while isinstance(step := next_step(entries, answered, {}, 0, NOW), Send):
        sent.append(step.revision)
        answered.add(step.revision)
    order = sorted(entries, key=lambda one: (one.person_id is not None, one.held, one.revision))
    assert sent == [one.revision for one in order]


def test_an_unanswered_entry_lets_the_others_go_first() -> None:
    entries = [entry(1, held=True), entry(2, held=True), entry(3, held=True)]
    impatient = {1: Attempts(MAX_ATTEMPTS_FIRST - 1, NOW)}
    patient = {1: Attempts(MAX_ATTEMPTS_FIRST, NOW)}
    assert next_step(entries, (), impatient, 0, NOW) == Send(1)
    assert next_step(entries, (), patient, 0, NOW) == Send(2)
    assert next_step(entries[:1], (), patient, 0, NOW) == Send(1)


def test_a_slow_entry_gets_one_frame_in_some() -> None:
    entries = [entry(revision) for revision in range(2, 5)]
    tries = {1: Attempts(MAX_ATTEMPTS_FIRST, NOW)}
    assert next_step(entries, (), tries, SLOW_INTERVAL - 2, NOW) == Send(2)
    assert next_step(entries, (), tries, SLOW_INTERVAL - 1, NOW) == Send(1)
    not_due = {1: Attempts(MAX_ATTEMPTS_FIRST, NOW + 1)}
    assert next_step(entries, (), not_due, SLOW_INTERVAL - 1, NOW) == Send(2)


@dataclass
class Terminal:
    """A simulated delivery: reads windows of `window` entries from `pending`, and sends as the plan says.

    Attributes:
        pending: the stored changes.
        answers: returns whether the terminal answers a revision at this attempt.
        window: the size of a window.
    """

    pending: list[PersonEntry]
    answers: Callable[[int, int], bool]
    window: int
    sent: list[int] = field(default_factory=list)
    attempts: dict[int, Attempts] = field(default_factory=dict)
    parts: dict[bool, list[PersonEntry]] = field(default_factory=lambda: {False: [], True: []})
    starts: dict[bool, int] = field(default_factory=lambda: {False: -1, True: -1})
    frames_since_slow: int = 0
    now: float = NOW

    def read(self) -> None:
        for held, entries in self.parts.items():
            self.starts[held] = next_start(entries, self.starts[held], (), self.attempts)
            found = [one for one in self.pending if one.held is held and one.revision > self.starts[held]]
            self.parts[held] = sorted(found, key=lambda one: one.revision)[: self.window]

    def send_one(self) -> None:
        """Send one frame, after waiting for the time of the next one."""
        if any(all(is_finished(one, (), self.attempts) for one in part) for part in self.parts.values()):
            self.read()
        while isinstance(step := self.step(), Wait):
            assert step.until is not None, "something is pending that is never sent"
            self.now = step.until
        tries = self.attempts.get(step.revision)
        self.frames_since_slow = 0 if tries is not None and tries.is_slow else self.frames_since_slow + 1
        self.sent.append(step.revision)
        number = 1 if tries is None else tries.count + 1
        if self.answers(step.revision, number):
            self.now += 5
            self.attempts.pop(step.revision, None)
            self.pending = [one for one in self.pending if one.revision != step.revision]
            self.read()
        else:
            self.now += 20
            self.attempts[step.revision] = Attempts(number, self.now - 20 + repeat_seconds(number, 20, 600))

    def step(self) -> Send | Wait:
        window: Sequence[PersonEntry] = [*self.parts[False], *self.parts[True]]
        return next_step(window, (), self.attempts, self.frames_since_slow, self.now)


@st.composite
def deliveries(draw: st.DrawFn) -> Terminal:
    kinds = draw(st.lists(st.booleans(), min_size=1, max_size=25))
    silent = draw(st.sets(st.integers(0, len(kinds) - 1)))
    seed = draw(st.randoms(use_true_random=False))

    def answers(revision: int, attempt: int) -> bool:
        return revision not in silent and (attempt > 2 or seed.random() < 0.7)

    entries = [entry(revision, held=held) for revision, held in enumerate(kinds)]
    # About three entries at a time are between their first attempt and the one that makes them slow.
    return Terminal(entries, answers, window=draw(st.integers(4, 6)))


@given(deliveries())
def test_every_entry_is_tried_and_answered_ones_are_soon_done(terminal: Terminal) -> None:
    revisions = {one.revision for one in terminal.pending}
    # Each entry is slow after three frames; the others get at least seven of eight frames.
    limit = 3 * len(revisions) * SLOW_INTERVAL // (SLOW_INTERVAL - 1) + SLOW_INTERVAL
    for _ in range(limit):
        if terminal.pending:
            terminal.send_one()
    assert set(terminal.sent) == revisions


@given(deliveries(), st.integers(0, 60))
def test_a_removal_waits_only_for_earlier_removals(terminal: Terminal, frames_before: int) -> None:
    for _ in range(frames_before):
        if terminal.pending:
            terminal.send_one()
    slow = {revision for revision, tries in terminal.attempts.items() if tries.is_slow}
    earlier = [one for one in terminal.pending if not one.held and one.revision not in slow]
    terminal.pending.append(entry(100))
    terminal.read()
    frames = len(terminal.sent)
    while 100 not in terminal.sent:
        terminal.send_one()
    # Every earlier removal gets up to three frames, and one frame in eight goes to a slow entry.
    prompt = 3 * len(earlier) + 1
    assert len(terminal.sent) - frames <= prompt + prompt // (SLOW_INTERVAL - 1) + 1


@given(deliveries())
def test_a_slow_entry_is_tried_again_while_others_keep_coming(terminal: Terminal) -> None:
    terminal.pending = [entry(0), *(one for one in terminal.pending if one.revision > 0)]
    terminal.answers = lambda revision, _: revision != 0
    terminal.read()
    for revision in count(100):
        terminal.pending.append(entry(revision, held=True))
        terminal.read()
        terminal.send_one()
        if terminal.sent.count(0) == MAX_ATTEMPTS_FIRST + 2:
            break
        assert revision < 300


def test_intervals_of_repeats_double_from_20_seconds() -> None:
    assert [repeat_seconds(count, 20, 600) for count in range(1, 9)] == [20, 40, 80, 160, 320, 600, 600, 600]
    assert repeat_seconds(100_000, 20, 600) == 600
