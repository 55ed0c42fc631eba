"""Weekly rules as users and the vendor write them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.faults import Fault, InvalidError
from bridge.model.person import ALWAYS, WEEKDAYS, Weekly
from bridge.persons.weekly import MAXIMUM_RANGES, parse_weekly

DOCUMENTED = dict.fromkeys(WEEKDAYS[:5], "09:00-12:35;13:25-16:25;16:50-18:30") | {"Saturday": "", "Sunday": ""}

MINUTES = st.lists(st.integers(0, 24 * 60 - 1), unique=True, max_size=2 * MAXIMUM_RANGES).map(sorted)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def as_ranges(minutes: list[int]) -> list[str]:
    return [f"{clock(start)}-{clock(end)}" for start, end in zip(minutes[::2], minutes[1::2], strict=False)]


DAYS = MINUTES.map(as_ranges)
WEEKS = st.fixed_dictionaries(dict.fromkeys(WEEKDAYS, DAYS))


def rule(**days: Any) -> Weekly:
    return Weekly.from_days(dict.fromkeys(WEEKDAYS, "") | days)


def faults_of(value: object) -> list[Fault]:
    with pytest.raises(InvalidError) as caught:
        parse_weekly(value)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (DOCUMENTED, Weekly.from_days(DOCUMENTED)),
        (json.dumps(DOCUMENTED), Weekly.from_days(DOCUMENTED)),
        ({"default": "00:00-23:59"}, ALWAYS),
        ({"default": None}, rule()),
        ({"monday": "08:00-09:00", "default": None}, rule(Monday="08:00-09:00")),
        ({"MONDAY": ["08:00-09:00", "10:00-11:00"], "Default": ""}, rule(Monday="08:00-09:00;10:00-11:00")),
        ({"Monday": [], "default": []}, rule()),
        ({"Monday": "  ", "default": []}, rule()),
        ({"Monday": " 13:00 - 14:00 ; 08:00-09:00 ", "default": None}, rule(Monday="08:00-09:00;13:00-14:00")),
        ({"Monday": ["13:00-14:00;08:00-09:00"], "default": None}, rule(Monday="08:00-09:00;13:00-14:00")),
        ({"Monday": "08:00-09:00;09:00-10:00", "default": None}, rule(Monday="08:00-09:00;09:00-10:00")),
    ],
)
def test_a_rule_is_read(value: object, expected: Weekly | None) -> None:
    assert parse_weekly(value) == expected


@pytest.mark.parametrize(
    ("day", "hint"),
    [
        ("9:00-12:00", "'9:00-12:00' is not a range"),
        ("09:00", "is not a range"),
        ("09:00-24:00", "from 00:00 to 23:59"),
        ("25:00-26:00", "from 00:00 to 23:59"),
        ("09:00-09:60", "from 00:00 to 23:59"),
        ("09:00-12:00;", "'' is not a range"),
        ("09:00-12:00,13:00-14:00", "is not a range"),
        ("٠٩:00-12:00", "is not a range"),
        ("12:00-09:00", "12:00-09:00 is backwards; split hours over midnight"),
        ("09:00-09:00", "09:00-09:00 has no length"),
        ("09:00-12:00;11:59-13:00", "09:00-12:00 and 11:59-13:00 overlap"),
        ("09:00-18:00;10:00-11:00;12:00-13:00", "overlap"),
        ("09:00-12:00;09:00-12:00", "overlap"),
        (["09:00-12:00", ""], "'' is not a range"),
        (["09:00-12:00", 7], "must be like"),
        (7, "must be like"),
        (True, "must be like"),
        ({"from": "09:00"}, "must be like"),
        ([["09:00-12:00"]], "must be like"),
        (["09:00-12:00"] * 25, "more than 24 ranges"),
        (";".join(as_ranges(list(range(100)))), "more than 24 ranges"),
        ("x" * 1_000_000, "more than 24 ranges"),
        (["x" * 1_000_000], "more than 24 ranges"),
    ],
)
def test_a_wrong_day_is_a_fault(day: object, hint: str) -> None:
    (fault,) = faults_of({"default": "", "tuesday": day})
    assert fault.path == "Tuesday"
    assert hint in fault.message
    assert len(fault.message) < 200


@pytest.mark.parametrize(
    ("value", "path", "hint"),
    [
        (dict.fromkeys(WEEKDAYS[:5], ""), "", "lacks Saturday, Sunday; give all seven days"),
        ({}, "", "lacks Monday, Tuesday"),
        ({"Mon": "", "default": ""}, "Mon", "did you mean 'Monday'"),
        ({"Holiday": "", "default": ""}, "Holiday", "unknown key"),
        ({"Monday": "", "monday": "", "default": ""}, "Monday", "given twice"),
        ({"x" * 500: "", "default": ""}, "x" * 39 + "…", "unknown key"),
        ({str(number): "" for number in range(100_000)}, "", "has 100000 entries"),
        ("", "", "JSON"),
        ("09:00-17:00", "", '{"default": "09:00-17:00"}'),
        ("[" * 5000, "", "JSON"),
        (" " * 9000 + "{}", "", "more than 8192"),
        ("[]", "", "must be an object"),
        ("7", "", "must be an object"),
        ("null", "", "must be an object"),
        ([], "", "must be an object"),
        (7, "", "must be an object"),
        (False, "", "must be an object"),
    ],
)
def test_a_wrong_rule_is_a_fault(value: object, path: str, hint: str) -> None:
    (fault,) = faults_of(value)
    assert fault.path == path
    assert hint in fault.message
    assert len(fault.message) < 300


def test_all_faults_of_a_rule_are_reported_at_once() -> None:
    paths = [fault.path for fault in faults_of({"Monday": "x", "Tuesday": "12:00-09:00", "Fryday": ""})]
    assert paths == ["Monday", "Tuesday", "Fryday", ""]


@given(WEEKS)
def test_texts_lists_and_the_vendors_form_mean_the_same(week: dict[str, list[str]]) -> None:
    text = {day: ";".join(ranges) for day, ranges in week.items()}
    weekly = parse_weekly(week)
    assert weekly is not None
    assert weekly.by_day() == text
    assert parse_weekly(text) == weekly
    assert parse_weekly(json.dumps(text)) == weekly
    assert parse_weekly(weekly.by_day()) == weekly


@given(WEEKS, st.sets(st.sampled_from(WEEKDAYS)), DAYS)
def test_default_stands_for_the_days_left_out(
    week: dict[str, list[str]], left_out: set[str], default: list[str]
) -> None:
    given_days = {day: ranges for day, ranges in week.items() if day not in left_out}
    weekly = parse_weekly(given_days | {"default": default})
    assert weekly == parse_weekly(week | dict.fromkeys(left_out, default))


@given(DAYS, st.randoms(use_true_random=False))
def test_the_order_of_ranges_does_not_matter(day: list[str], dice: Any) -> None:
    shuffled = list(day)
    dice.shuffle(shuffled)
    assert parse_weekly({"default": shuffled}) == parse_weekly({"default": day})
