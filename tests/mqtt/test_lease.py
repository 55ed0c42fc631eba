"""How old a press can be at most, as far as the broker's echoes tell."""

from itertools import count

from bridge.mqtt.lease import Lease
from tests.support.core import ManualClock

DEADLINE = 4.0


def lease_of(clock: ManualClock, deadline: float = DEADLINE) -> Lease:
    nonces = count(1)
    return Lease(clock, deadline, lambda: f"nonce {next(nonces)}")


def trusted_lease(clock: ManualClock) -> Lease:
    """A lease whose connection has shown itself prompt for a second."""
    lease = lease_of(clock)
    clock.seconds += 1
    assert lease.echo(beat(lease))
    assert lease.ready
    return lease


def beat(lease: Lease) -> bytes:
    payload = lease.next_heartbeat()
    assert payload is not None
    return payload


def test_before_the_first_echo_no_age_can_be_told() -> None:
    lease = lease_of(ManualClock())
    assert (lease.ready, lease.requested_at()) == (False, None)
    beat(lease)
    assert lease.requested_at() is None


def test_a_press_is_no_older_than_the_last_echos_publishing() -> None:
    clock = ManualClock()
    lease = trusted_lease(clock)
    payload = beat(lease)
    published = clock.seconds
    clock.seconds += 0.1
    assert lease.echo(payload)
    clock.seconds += 0.3
    assert (lease.ready, lease.requested_at()) == (True, published)


def test_there_is_one_heartbeat_at_a_time() -> None:
    clock = ManualClock()
    lease = lease_of(clock)
    payload = beat(lease)
    clock.seconds += 1
    assert lease.next_heartbeat() is None
    assert lease.echo(payload)
    assert lease.next_heartbeat() is not None


def test_a_lost_heartbeat_goes_out_again_as_the_same_one() -> None:
    clock = ManualClock()
    lease = lease_of(clock)
    payload, published = beat(lease), clock.seconds
    clock.seconds += 6
    assert lease.next_heartbeat() == payload
    assert lease.next_heartbeat() is None
    clock.seconds += 0.1
    assert lease.echo(payload)
    assert not lease.echo(payload), "the second echo says nothing"
    assert lease.requested_at() is None, "it took long"
    later = beat(lease)
    clock.seconds += 1.5
    assert lease.echo(later)
    assert lease.requested_at() == published + 6.1


def test_a_heartbeat_that_went_out_twice_carries_the_time_of_the_first() -> None:
    clock = ManualClock()
    lease = lease_of(clock, deadline=60)
    payload, published = beat(lease), clock.seconds
    clock.seconds += 6
    assert lease.next_heartbeat() == payload
    clock.seconds += 0.1
    assert lease.echo(payload)
    assert lease.requested_at() == published


def test_only_the_outstanding_nonce_is_an_echo() -> None:
    lease = lease_of(ManualClock())
    assert not lease.echo(b"nonce 1")
    payload = beat(lease)
    for forged in (b"", b"nonce 2", payload + b" ", b"\xff"):
        assert not lease.echo(forged)
    assert lease.echo(payload)


def test_after_a_slow_echo_others_must_be_prompt_for_a_second() -> None:
    clock = ManualClock()
    lease = trusted_lease(clock)
    payload = beat(lease)
    clock.seconds += DEADLINE / 2 + 0.1
    lease.echo(payload)
    for _ in range(3):
        assert lease.requested_at() is None
        payload = beat(lease)
        clock.seconds += 0.3
        lease.echo(payload)
    assert lease.requested_at() is None, "prompt for 0.9 s only"
    payload = beat(lease)
    clock.seconds += 0.3
    lease.echo(payload)
    assert lease.requested_at() == clock.seconds - 0.3


def test_where_bridge_and_broker_stood_still_together_the_silence_tells() -> None:
    """A suspended machine that runs both: no heartbeat was on its way, and the next one is answered at once."""
    clock = ManualClock()
    lease = trusted_lease(clock)
    clock.seconds += DEADLINE
    payload = beat(lease)
    clock.seconds += 0.01
    assert lease.echo(payload)
    assert lease.requested_at() is None


def test_silence_does_not_count_as_prompt() -> None:
    clock = ManualClock()
    lease = lease_of(clock)
    payload = beat(lease)
    clock.seconds += DEADLINE
    lease.echo(payload)
    clock.seconds += 5
    assert lease.requested_at() is None


def test_a_new_connection_begins_anew() -> None:
    clock = ManualClock()
    lease = trusted_lease(clock)
    payload = beat(lease)
    lease.reset()
    assert (lease.ready, lease.requested_at()) == (False, None)
    assert not lease.echo(payload), "of the connection before"


def test_a_new_connection_must_be_prompt_for_a_second_too() -> None:
    """Its broker may have thawed a moment ago, with old presses still in its other clients' buffers."""
    clock = ManualClock()
    lease = trusted_lease(clock)
    lease.reset()
    for _ in range(3):
        payload = beat(lease)
        clock.seconds += 0.3
        assert lease.echo(payload)
        assert (lease.ready, lease.requested_at()) == (False, None)
    payload = beat(lease)
    clock.seconds += 0.3
    assert lease.echo(payload)
    assert (lease.ready, lease.requested_at()) == (True, clock.seconds - 0.3)


def test_while_an_echo_is_overdue_the_last_one_dates_presses() -> None:
    clock = ManualClock()
    lease = trusted_lease(clock)
    dated = lease.requested_at()
    beat(lease)
    clock.seconds += 3 * DEADLINE
    assert lease.requested_at() == dated


def test_the_interval_is_an_eighth_of_the_deadline_and_a_second_at_most() -> None:
    assert [lease_of(ManualClock(), deadline).interval for deadline in (1, 4, 60)] == [0.125, 0.5, 1.0]
