"""What goes to a terminal next, over all that can be pending."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from bridge.model.person_entry import DeliveryState, PersonEntry
from bridge.persons.delivery.plan import MAX_ATTEMPTS_FIRST, Attempts, Send, Wait, next_step, repeat_seconds

NOW = 1000.0


def entry(revision: int, person_id: str | None = "") -> PersonEntry:
    return PersonEntry(
        sn="T1",
        person_id=f"p{revision}" if person_id == "" else person_id,
        revision=revision,
        person=None,
        delivery=DeliveryState.PENDING,
        confirmed_revision=None,
        status=None,
        message=None,
        changed_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[PersonEntry], set[int], dict[int, Attempts]]:
    revisions = sorted(draw(st.sets(st.integers(1, 30), max_size=8)))
    removal = draw(st.sampled_from([*revisions, None]))
    entries = [entry(revision, None if revision == removal else "") for revision in revisions]
    answered = draw(st.sets(st.sampled_from(revisions))) if revisions else set()
    tried = draw(st.sets(st.sampled_from(revisions))) if revisions else set()
    tries = {
        revision: Attempts(draw(st.integers(1, 5)), draw(st.floats(NOW - 5, NOW + 5, allow_nan=False)))
        for revision in sorted(tried)
    }
    return entries, answered, tries


@given(situations())
def test_only_what_is_open_and_due_is_sent(situation: tuple[list[PersonEntry], set[int], dict[int, Attempts]]) -> None:
    entries, answered, tries = situation
    step = next_step(entries, answered, tries, None, NOW)
    if isinstance(step, Send):
        revision = step.entry.revision
        assert step.entry in entries
        assert revision not in answered
        assert revision not in tries or tries[revision].due <= NOW
    elif step.until is None:
        assert {one.revision for one in entries} <= answered
    else:
        assert step.until > NOW
        # Once it has come, there is something to send.
        assert isinstance(next_step(entries, answered, tries, None, step.until), Send)


@given(situations())
def test_the_removal_of_everyone_keeps_its_place(
    situation: tuple[list[PersonEntry], set[int], dict[int, Attempts]],
) -> None:
    entries, answered, tries = situation
    step = next_step(entries, answered, tries, None, NOW)
    if not isinstance(step, Send):
        return
    for other in entries:
        if other.revision in answered:
            continue
        if other.person_id is None:
            assert step.entry.revision <= other.revision
        if step.entry.person_id is None:
            assert step.entry.revision <= other.revision


@given(situations())
def test_everything_is_sent_once_before_anything_waits(
    situation: tuple[list[PersonEntry], set[int], dict[int, Attempts]],
) -> None:
    entries, _, _ = situation
    answered: set[int] = set()
    sent = []
    while isinstance(step := next_step(entries, answered, {}, None, NOW), Send):
        sent.append(step.entry)
        answered.add(step.entry.revision)
    assert sent == entries


@given(situations(), st.floats(0.001, 20))
def test_nothing_is_sent_while_a_frame_is_in_flight(
    situation: tuple[list[PersonEntry], set[int], dict[int, Attempts]], left: float
) -> None:
    entries, answered, tries = situation
    assert isinstance(next_step(entries, answered, tries, NOW + left, NOW), Wait)
    free = next_step(entries, answered, tries, None, NOW)
    assert next_step(entries, answered, tries, NOW - left, NOW) == free


def test_an_unanswered_entry_lets_the_others_go_first() -> None:
    entries = [entry(1), entry(2), entry(3)]
    impatient = {1: Attempts(MAX_ATTEMPTS_FIRST - 1, NOW)}
    patient = {1: Attempts(MAX_ATTEMPTS_FIRST, NOW)}
    assert next_step(entries, (), impatient, None, NOW) == Send(entries[0])
    assert next_step(entries, (), patient, None, NOW) == Send(entries[1])
    assert next_step(entries[:1], (), patient, None, NOW) == Send(entries[0])


def test_intervals_of_repeats_double_from_20_seconds() -> None:
    assert [repeat_seconds(count, 20, 600) for count in range(1, 9)] == [20, 40, 80, 160, 320, 600, 600, 600]
    assert repeat_seconds(100_000, 20, 600) == 600
