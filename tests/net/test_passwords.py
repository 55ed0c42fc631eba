"""Verification of passwords, and the fair queue that it uses."""

import asyncio

import pytest
from argon2 import PasswordHasher as Argon2

from bridge.model.secret import Secret
from bridge.net.passwords import (
    FairQueue,
    PasswordVerifier,
    QueueFullError,
    VerifierBusyError,
    VerifierLimits,
    is_usable,
)

QUICK = Argon2(time_cost=1, memory_cost=8, parallelism=1)


async def test_thousands_of_wrong_passwords_use_bounded_memory_and_displace_no_right_one() -> None:
    verifier = PasswordVerifier(VerifierLimits(remembered_wrong=3))
    stored = Secret(QUICK.hash("right"))
    assert await verifier.verify(stored, "right", address="192.0.2.1")
    for number in range(2000):
        assert not await verifier.verify(stored, f"wrong {number}", address="192.0.2.66")
    assert verifier.statistics().hashed == 2001
    assert await verifier.verify(stored, "right", address="192.0.2.1")
    statistics = verifier.statistics()
    assert statistics.hashed == 2001, "the right password is still remembered"
    assert (statistics.remembered_wrong, statistics.remembered_right, statistics.pending) == (3, 1, 0)
    verifier.close()


async def test_a_caller_without_an_address_is_never_refused() -> None:
    verifier = PasswordVerifier(VerifierLimits(waiting_known=1))
    stored = Secret(QUICK.hash("right"))
    results = await asyncio.gather(
        *(verifier.verify(stored, f"{number}", address=f"192.0.2.{number}") for number in range(5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [bool, bool, *[VerifierBusyError] * 3]
    assert await verifier.verify(stored, "right")
    verifier.close()


async def test_the_queue_serves_clients_in_turn_and_drops_jobs_of_the_busiest() -> None:
    queue = FairQueue[str](4)
    begun: list[str] = []
    running: list[asyncio.Future[str]] = []

    def work(name: str) -> asyncio.Future[str]:
        begun.append(name)
        running.append(asyncio.get_running_loop().create_future())
        return running[-1]

    busy = [queue.add("busy", lambda n=n: work(f"busy {n}")) for n in range(6)]  # type: ignore[misc]  # a default
    assert isinstance(busy[5].exception(), QueueFullError)
    others = [queue.add(name, lambda name=name: work(name)) for name in ("modest", "other")]  # type: ignore[misc]
    assert [isinstance(one.exception(), QueueFullError) for one in (busy[4], busy[3])] == [True, True]
    for number in range(5):
        running[number].set_result(begun[number])
        await asyncio.sleep(0)
    assert begun == ["busy 0", "busy 1", "modest", "other", "busy 2"]
    assert [one.result() for one in others] == ["modest", "other"]
    assert len(queue) == 0


async def test_a_failed_job_reports_its_error_and_the_next_job_runs() -> None:
    queue = FairQueue[str](4)
    loop = asyncio.get_running_loop()
    failing, following = loop.create_future(), loop.create_future()
    first = queue.add("a", lambda: failing)
    second = queue.add("a", lambda: following)
    failing.set_exception(OSError("failed"))
    following.set_result("done")
    with pytest.raises(OSError, match="failed"):
        await first
    assert await second == "done"


@pytest.mark.parametrize("broken", ["$argon2", "$argon2id$v=19$m=x,t=3,p=4$c2FsdA$aa", "$argon2id$secret"])
def test_an_incomplete_hash_is_unusable(broken: str) -> None:
    assert not is_usable(Secret(broken))
    assert is_usable(Secret("plain"))
    assert is_usable(Secret(QUICK.hash("right")))


async def test_a_hash_that_cannot_be_verified_is_logged_but_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    verifier = PasswordVerifier()
    assert not await verifier.verify(Secret("$argon2id$v=19$m=65536,t=3,p=4$c2Fsd$aa"), "x")
    verifier.close()
    assert "hash-password" in caplog.text
    assert "c2Fsd" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
