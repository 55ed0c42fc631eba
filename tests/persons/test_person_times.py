"""`valid_from` and `valid_until` as users write them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bridge.model.faults import InvalidError
from bridge.model.person import Person
from bridge.persons.timestamps import LATEST_SECONDS, LocalTimezone, parse_timestamp

BERLIN = ZoneInfo("Europe/Berlin")
HAVANA = ZoneInfo("America/Havana")
"""Clocks go forward at midnight and come back to midnight."""
NUUK = ZoneInfo("America/Nuuk")
"""Clocks go forward in the hour before midnight."""
ZONES = st.sampled_from([UTC, BERLIN, HAVANA, NUUK, ZoneInfo("Asia/Kathmandu"), timezone(timedelta(hours=-11))])
LOCAL = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2037, 12, 31))  # noqa: DTZ001  no offset is the point


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-24T08:00:00+00:00", "2026-11-24T08:00:00+00:00"),
        ("2026-11-24T08:00:00.1234Z", "2026-11-24T08:00:00.123+00:00"),
        ("2026-11-24 08:00+0530", "2026-11-24T08:00:00+05:30"),
        ("2026-11-24t08:00z", "2026-11-24T08:00:00+00:00"),
        (" 2026-11-24T08:00 ", "2026-11-24T08:00:00+01:00"),
        ("2026-07-24T08:00", "2026-07-24T08:00:00+02:00"),
        # 02:30 does not exist in the first night, and occurs twice in the second.
        ("2026-03-29T02:30", "2026-03-29T03:30:00+02:00"),
        ("2026-10-25T02:30", "2026-10-25T02:30:00+02:00"),
        (1795507200, "2026-11-24T08:00:00+00:00"),
        (1795507200.25, "2026-11-24T08:00:00.250+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("end_of_day", [False, True])
def test_a_time_is_read(value: object, expected: str, end_of_day: bool) -> None:
    assert parse_timestamp(value, BERLIN, end_of_day=end_of_day) == at(expected)


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        (UTC, "2026-11-24", "2026-11-24T00:00:00+00:00", "2026-11-24T23:59:59+00:00"),
        (BERLIN, "2026-03-29", "2026-03-29T00:00:00+01:00", "2026-03-29T23:59:59+02:00"),
        (BERLIN, "2024-02-29", "2024-02-29T00:00:00+01:00", "2024-02-29T23:59:59+01:00"),
        # 00:00 does not exist on this day; the day before ends where it begins.
        (HAVANA, "2026-03-08", "2026-03-08T01:00:00-04:00", "2026-03-08T23:59:59-04:00"),
        (HAVANA, "2026-03-07", "2026-03-07T00:00:00-05:00", "2026-03-07T23:59:59-05:00"),
        # The hour after midnight occurs twice.
        (HAVANA, "2026-11-01", "2026-11-01T00:00:00-04:00", "2026-11-01T23:59:59-05:00"),
        # 23:59:59 does not exist on this day.
        (NUUK, "2026-03-28", "2026-03-28T00:00:00-02:00", "2026-03-28T22:59:59-02:00"),
        (UTC, "9999-12-31", "9999-12-31T00:00:00+00:00", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_date_alone_is_its_start_or_its_end(zone: ZoneInfo, day: str, start: str, end: str) -> None:
    assert parse_timestamp(day, zone, end_of_day=False) == at(start)
    assert parse_timestamp(day, zone, end_of_day=True) == at(end)


@pytest.mark.parametrize("value", [None, -1, -1.0])
def test_no_limit(value: object) -> None:
    assert parse_timestamp(value, UTC, end_of_day=True) is None


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("", "must be a time like"),
        ("tomorrow", "not 'tomorrow'"),
        ("24.11.2026", "must be a time like"),
        ("2026-11-24T25:00", "must be a time like"),
        ("2026-11-24T24:00", "must be a time like"),
        ("2026-11-24T08:00:60", "must be a time like"),
        ("2026-11-24T8:00", "must be a time like"),
        ("2026-W48-2", "must be a time like"),
        ("20261124T080000", "must be a time like"),
        ("2026-11-24Z", "must be a time like"),
        ("٢٠٢٦-11-24", "must be a time like"),
        ("2026-11-24T08:00" + " " * 100 + "x", "must be a time like"),
        ("x" * 100_000, "must be a time like"),
        ("2026-02-29", "day"),
        ("2026-13-01T00:00", "month"),
        ("2026-11-24T08:00+99:00", "is not a time"),
        ("1795507200", "without quotation marks"),
        ("-1", "without quotation marks"),
        ("20261124", "without quotation marks"),
        (True, "must be a time like"),
        ([], "must be a time like"),
        ({"year": 2026}, "must be a time like"),
        (1795507200000, "milliseconds"),
        (-2, "between 1970 and 9999"),
        (10**400, "between 1970 and 9999"),
        (float("nan"), "between 1970 and 9999"),
        (float("inf"), "between 1970 and 9999"),
        (float("-inf"), "between 1970 and 9999"),
        ("1969-12-31T23:59:59Z", "between 1970 and 9999"),
        ("0001-01-01", "between 1970 and 9999"),
        ("9999-12-31T23:59:59-01:00", "between 1970 and 9999"),
    ],
)
def test_a_wrong_time_is_a_fault(value: object, hint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_timestamp(value, timezone(timedelta(hours=5)), end_of_day=False)
    (fault,) = caught.value.faults
    assert hint in fault.message
    assert len(fault.message) < 250


@given(LOCAL, ZONES)
def test_a_local_time_is_read_in_the_given_zone(moment: datetime, zone: ZoneInfo) -> None:
    seconds = parse_timestamp(moment.isoformat(), zone, end_of_day=False)
    assert seconds is not None
    shown = datetime.fromtimestamp(seconds, zone).replace(tzinfo=None)
    # Only a time that the clocks skip is read as another time.
    assume(datetime.fromtimestamp(moment.replace(tzinfo=zone).timestamp(), zone).replace(tzinfo=None) == moment)
    assert abs(shown - moment) < timedelta(milliseconds=1)


@given(st.dates(datetime(1971, 1, 1).date(), datetime(2037, 12, 30).date()), ZONES)  # noqa: DTZ001  as above
def test_days_follow_one_another_without_gap_or_overlap(day: datetime, zone: ZoneInfo) -> None:
    end = parse_timestamp(day.isoformat(), zone, end_of_day=True)
    assert end is not None
    assert end + 1 == parse_timestamp((day + timedelta(days=1)).isoformat(), zone, end_of_day=False)
    assert datetime.fromtimestamp(end, zone).date() == day


@given(st.floats(0, LATEST_SECONDS) | st.integers(0, int(LATEST_SECONDS)), ZONES)
def test_a_time_that_was_read_is_shown_and_read_again_as_the_same(seconds: float, zone: ZoneInfo) -> None:
    once = parse_timestamp(seconds, zone, end_of_day=False)
    shown = Person(id="1", name="Ada", photo="", valid_from=once).as_json()["valid_from"]
    assert parse_timestamp(shown, zone, end_of_day=True) == once


@given(st.text() | st.floats() | st.integers() | st.booleans(), ZONES, st.booleans())
def test_any_text_gives_a_time_or_a_fault(value: object, zone: ZoneInfo, end_of_day: bool) -> None:
    try:
        seconds = parse_timestamp(value, zone, end_of_day=end_of_day)
    except InvalidError:
        return
    assert seconds is None or 0 <= seconds <= LATEST_SECONDS


@contextmanager
def machine_in(zone: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        try:
            yield
        finally:
            patch.undo()
            time.tzset()


@given(LOCAL, st.sampled_from(["Europe/Berlin", "America/Havana", "America/Nuuk", "Asia/Kathmandu"]), st.booleans())
@example(datetime(2026, 3, 29, 2, 30), "Europe/Berlin", True)  # noqa: DTZ001  as above
@example(datetime(2026, 10, 25, 2, 30), "Europe/Berlin", True)  # noqa: DTZ001  as above
@example(datetime(2026, 3, 8), "America/Havana", False)  # noqa: DTZ001  as above
@example(datetime(2026, 3, 28), "America/Nuuk", False)  # noqa: DTZ001  as above
def test_the_machines_own_time_is_that_of_its_zone(moment: datetime, zone: str, with_time: bool) -> None:
    text = moment.isoformat() if with_time else moment.date().isoformat()
    with machine_in(zone):
        for end_of_day in (False, True):
            local = parse_timestamp(text, LocalTimezone(), end_of_day=end_of_day)
            assert local == parse_timestamp(text, ZoneInfo(zone), end_of_day=end_of_day)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Europe/Berlin", "America/Havana", "UTC"])
@pytest.mark.parametrize("text", ["9999-12-31", "9999-12-31T23:59:59", "9999-12-31 23:59:59"])
def test_the_last_day_is_a_time_in_every_zone(text: str, zone: str) -> None:
    with machine_in(zone):
        assert parse_timestamp(text, LocalTimezone(), end_of_day=True) == LATEST_SECONDS
        assert parse_timestamp(text, ZoneInfo(zone), end_of_day=True) == LATEST_SECONDS
        assert parse_timestamp("9999-12-31", LocalTimezone(), end_of_day=False) == at("9999-12-31T00:00:00+00:00")


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "9999-12-31T23:59:59", "0001-01-01T00:00"])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Havana"])
def test_the_ends_of_the_calendar_are_times_or_faults(text: str, zone: str) -> None:
    with machine_in(zone):
        try:
            assert parse_timestamp(text, LocalTimezone(), end_of_day=True) is not None
        except InvalidError as error:
            assert error.faults  # noqa: PT017  both ends are right, each in its way


def test_the_machines_own_time_has_a_name() -> None:
    with machine_in("Europe/Berlin"):
        assert datetime(2026, 7, 1, tzinfo=LocalTimezone()).tzname() == "CEST"
