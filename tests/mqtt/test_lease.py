"""The lease: the largest age of a press that the echoes from the broker allow."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mqtt.lease import Lease
from tests.support.core import ManualClock

DEADLINE = 4.0


def lease_of(clock: ManualClock, deadline: float = DEADLINE) -> Lease:
    nonces = count(1)
    return Lease(clock, deadline, lambda: f"nonce {next(nonces)}")


def ready_lease(clock: ManualClock, deadline: float = DEADLINE) -> Lease:
    """Return a lease whose echoes have been prompt for more than a second."""
    lease = lease_of(clock, deadline)
    echo_promptly(lease, clock, 1.5)
    assert lease.ready
    return lease


def echo_promptly(lease: Lease, clock: ManualClock, seconds: float) -> None:
    """Echo a heartbeat five times a second, 1 ms after its publishing."""
    end = clock.seconds + seconds
    while clock.seconds < end:
        clock.seconds += 0.199
        payload = next_heartbeat(lease)
        clock.seconds += 0.001
        assert lease.echo(payload)


def next_heartbeat(lease: Lease) -> bytes:
    payload = lease.next_heartbeat()
    assert payload is not None
    return payload


def test_before_the_first_echo_no_age_is_known() -> None:
    lease = lease_of(ManualClock())
    assert (lease.ready, lease.requested_at()) == (False, None)
    next_heartbeat(lease)
    assert lease.requested_at() is None


def test_a_press_is_no_older_than_the_last_echoed_heartbeat() -> None:
    clock = ManualClock()
    lease = ready_lease(clock)
    payload = next_heartbeat(lease)
    published = clock.seconds
    clock.seconds += 0.1
    assert lease.echo(payload)
    clock.seconds += 0.3
    assert (lease.ready, lease.requested_at()) == (True, published)


def test_only_one_heartbeat_is_outstanding() -> None:
    clock = ManualClock()
    lease = lease_of(clock)
    payload = next_heartbeat(lease)
    clock.seconds += 1
    assert lease.next_heartbeat() is None
    assert lease.echo(payload)
    assert lease.next_heartbeat() is not None


def test_a_lost_heartbeat_is_published_again_with_the_same_nonce() -> None:
    clock = ManualClock()
    lease = ready_lease(clock)
    payload = next_heartbeat(lease)
    clock.seconds += 6
    assert lease.next_heartbeat() == payload
    assert lease.next_heartbeat() is None
    clock.seconds += 0.1
    assert lease.echo(payload)
    assert not lease.echo(payload), "the second echo is ignored"
    assert lease.requested_at() is None, "it took long"


def test_a_heartbeat_that_was_published_twice_dates_from_the_first_time() -> None:
    clock = ManualClock()
    lease = ready_lease(clock, deadline=60)
    payload, published = next_heartbeat(lease), clock.seconds
    clock.seconds += 6
    assert lease.next_heartbeat() == payload
    clock.seconds += 0.1
    assert lease.echo(payload)
    requested_at = lease.requested_at()
    assert requested_at is not None
    assert requested_at <= published


def test_only_the_outstanding_nonce_is_an_echo() -> None:
    lease = lease_of(ManualClock())
    assert not lease.echo(b"nonce 1")
    payload = next_heartbeat(lease)
    for forged in (b"", b"nonce 2", payload + b" ", b"\xff"):
        assert not lease.echo(forged)
    assert lease.echo(payload)


def test_after_a_silence_echoes_must_be_prompt_for_as_long() -> None:
    clock = ManualClock()
    lease = ready_lease(clock)
    payload = next_heartbeat(lease)
    clock.seconds += 8
    lease.echo(payload)
    echo_promptly(lease, clock, 7.5)
    assert lease.requested_at() is None
    echo_promptly(lease, clock, 1)
    assert lease.requested_at() == pytest.approx(clock.seconds - 0.001)


def test_the_caution_after_a_very_long_silence_is_bounded() -> None:
    """A machine that was suspended for a night refuses presses for half a minute."""
    clock = ManualClock()
    lease = ready_lease(clock)
    clock.seconds += 8 * 3600
    echo_promptly(lease, clock, 29)
    assert lease.requested_at() is None
    echo_promptly(lease, clock, 2)
    assert lease.ready


def test_short_stalls_add_up() -> None:
    """Packets that wait through one may wait through the next one too."""
    clock = ManualClock()
    lease = ready_lease(clock, deadline=5)
    began = clock.seconds
    for _ in range(4):
        clock.seconds += 0.002
        payload = next_heartbeat(lease)
        clock.seconds += 2.4
        lease.echo(payload)
    echo_promptly(lease, clock, 9)
    requested_at = lease.requested_at()
    assert requested_at is not None
    assert requested_at <= began
    echo_promptly(lease, clock, 1)
    assert lease.requested_at() == pytest.approx(clock.seconds - 0.001)


def test_a_short_delay_is_paid_off_by_the_next_prompt_echoes() -> None:
    clock = ManualClock()
    lease = ready_lease(clock)
    dated = lease.requested_at()
    payload = next_heartbeat(lease)
    clock.seconds += 0.4
    lease.echo(payload)
    assert lease.requested_at() == dated
    echo_promptly(lease, clock, 0.6)
    assert lease.requested_at() == pytest.approx(clock.seconds - 0.001)


@given(st.lists(st.tuples(st.floats(0, 0.49), st.floats(0, 0.49)), min_size=1, max_size=50))
def test_small_delays_never_make_a_prompt_press_late(delays: list[tuple[float, float]]) -> None:
    """Event loop and network may each add up to almost half of the interval."""
    clock = ManualClock()
    lease = ready_lease(clock)
    for publishing, echoing in delays:
        clock.seconds += lease.interval
        payload = next_heartbeat(lease)
        clock.seconds += min(publishing, echoing) * lease.interval
        assert lease.echo(payload)
        requested_at = lease.requested_at()
        assert requested_at is not None
        assert clock.seconds - requested_at <= 0.5 * lease.interval


def test_a_silence_is_noticed_even_if_bridge_and_broker_stood_still_together() -> None:
    """A suspended machine runs both: no heartbeat was under way, and the next one is echoed at once."""
    clock = ManualClock()
    lease = ready_lease(clock)
    clock.seconds += DEADLINE
    payload = next_heartbeat(lease)
    clock.seconds += 0.01
    assert lease.echo(payload)
    assert lease.requested_at() is None


def test_a_silence_does_not_count_as_prompt() -> None:
    clock = ManualClock()
    lease = lease_of(clock)
    payload = next_heartbeat(lease)
    clock.seconds += DEADLINE
    lease.echo(payload)
    clock.seconds += 5
    assert lease.requested_at() is None


def test_a_new_connection_starts_again() -> None:
    clock = ManualClock()
    lease = ready_lease(clock)
    payload = next_heartbeat(lease)
    lease.reset()
    assert (lease.ready, lease.requested_at()) == (False, None)
    assert not lease.echo(payload), "it belongs to the connection before"


@pytest.mark.parametrize(("silence", "caution"), [(0, 1), (3, 3), (3600, 5)])
def test_the_echoes_of_a_new_connection_must_be_prompt_too(silence: float, caution: float) -> None:
    """Its broker may have stood still until a moment ago, with old presses in its other clients' buffers."""
    clock = ManualClock()
    lease = ready_lease(clock)
    clock.seconds += silence
    lease.reset()
    lease.reset()
    echo_promptly(lease, clock, caution - 0.3)
    assert (lease.ready, lease.requested_at()) == (False, None)
    echo_promptly(lease, clock, 0.5)
    assert lease.requested_at() == pytest.approx(clock.seconds - 0.001)


def test_while_an_echo_is_overdue_presses_date_from_the_last_one() -> None:
    clock = ManualClock()
    lease = ready_lease(clock)
    dated = lease.requested_at()
    next_heartbeat(lease)
    clock.seconds += 3 * DEADLINE
    assert lease.requested_at() == dated


def test_the_interval_is_an_eighth_of_the_deadline_and_a_second_at_most() -> None:
    assert [lease_of(ManualClock(), deadline).interval for deadline in (1, 4, 60)] == [0.125, 0.5, 1.0]


@pytest.mark.parametrize("deadline", [1.0, 2.0, 5.0, 60.0])
def test_on_a_new_connection_the_last_echo_of_the_caution_ends_it(deadline: float) -> None:
    clock = ManualClock()
    lease = lease_of(clock, deadline)
    began = clock.seconds
    while True:
        payload = next_heartbeat(lease)
        pause_seconds = lease.pause_seconds
        clock.seconds += 0.001
        assert lease.echo(payload)
        if lease.ready:
            break
        assert pause_seconds <= lease.interval
        clock.seconds += pause_seconds - 0.001
    assert 1.0 <= clock.seconds - began < 1.05
    assert lease.pause_seconds == lease.interval
