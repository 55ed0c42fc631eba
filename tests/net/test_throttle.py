"""Throttling of login attempts."""

from bridge.net.throttle import LoginThrottle, ThrottleLimits
from tests.support.core import ManualClock


def test_ten_failures_block_a_key_and_one_more_blocks_it_again() -> None:
    clock = ManualClock()
    throttle = LoginThrottle[tuple[str, str]](clock)
    key = ("a", "T1")
    for _ in range(10):
        assert throttle.seconds_blocked(key) == 0
        throttle.failed(key)
    assert throttle.seconds_blocked(key) == 30
    assert throttle.seconds_blocked(("a", "T2")) == throttle.seconds_blocked(("b", "T1")) == 0
    clock.seconds += 60
    assert throttle.seconds_blocked(key) == 0
    throttle.failed(key)
    assert throttle.seconds_blocked(key) > 0, "one more attempt, not ten"
    throttle.succeeded(key)
    assert throttle.seconds_blocked(key) == 0
    assert len(throttle) == 0


def test_a_withdrawn_failure_does_not_count() -> None:
    throttle = LoginThrottle[str](ManualClock())
    for _ in range(100):
        throttle.failed("a")
        throttle.withdraw_failure("a")
    assert throttle.seconds_blocked("a") == 0
    throttle.withdraw_failure("b")


def test_a_withdrawn_failure_after_a_block_unblocks_the_key() -> None:
    clock = ManualClock()
    throttle = LoginThrottle[str](clock)
    for _ in range(10):
        throttle.failed("a")
    clock.seconds += 30
    throttle.failed("a")
    throttle.withdraw_failure("a")
    assert throttle.seconds_blocked("a") == 0


def test_failures_are_forgotten_after_a_minute() -> None:
    clock = ManualClock()
    throttle = LoginThrottle[str](clock)
    for number in range(10):
        throttle.failed("192.0.2.1", bytes([number]))
    assert throttle.seconds_blocked("192.0.2.1") == 30
    assert throttle.seconds_blocked("192.0.2.2") == 0
    clock.seconds += 61
    throttle.failed("192.0.2.1", b"new")
    assert throttle.seconds_blocked("192.0.2.1") == 0


def test_a_wrong_login_is_recognised_for_its_key_only() -> None:
    throttle = LoginThrottle[str](ManualClock())
    for number in range(10):
        throttle.failed("192.0.2.1", bytes([number]))
    assert throttle.is_known_failure("192.0.2.1", b"\x01")
    assert not throttle.is_known_failure("192.0.2.1", b"\x10")
    assert not throttle.is_known_failure("192.0.2.2", b"\x01")


def test_remembered_keys_are_bounded() -> None:
    throttle = LoginThrottle[tuple[str, str]](ManualClock())
    for number in range(30_000):
        throttle.failed(("a", str(number)))
    assert len(throttle) == 10_000


def test_limits_are_arguments() -> None:
    clock = ManualClock()
    throttle = LoginThrottle[str](clock, ThrottleLimits(max_failures=2, block_seconds=5, max_keys=1))
    throttle.failed("a")
    throttle.failed("a")
    assert throttle.seconds_blocked("a") == 5
    throttle.failed("b")
    assert throttle.seconds_blocked("a") == 0
    assert len(throttle) == 1
