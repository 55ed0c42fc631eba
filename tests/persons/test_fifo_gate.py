"""Each terminal's changes keep their order, and those of different terminals do not wait for each other."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from bridge.persons.fifo_gate import FifoGate


class Callers:
    """Calls that hold places of a gate until they are released."""

    def __init__(self) -> None:
        self.gate = FifoGate()
        self.entered: list[int] = []
        self.released: set[int] = set()
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def call(self, number: int, sns: Sequence[str]) -> None:
        """Reserve places; returns after the reservation."""
        self.tasks[number] = asyncio.get_running_loop().create_task(self._hold(number, sns))
        await asyncio.sleep(0)

    async def release(self, number: int) -> None:
        self.released.add(number)
        await self.rest()

    async def rest(self) -> None:
        """Let all tasks run as far as they can."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _hold(self, number: int, sns: Sequence[str]) -> None:
        async with self.gate.reserve(sns):
            self.entered.append(number)
            while number not in self.released:
                await asyncio.sleep(0)


@pytest.fixture
async def callers() -> Callers:
    return Callers()


async def test_calls_for_other_terminals_pass(callers: Callers) -> None:
    await callers.call(1, ["A"])
    await callers.call(2, ["A", "B", "A"])
    await callers.call(3, ["B"])
    await callers.call(4, ["C"])
    assert callers.entered == [1, 4]
    await callers.release(1)
    # The third came later than the second, which waited in the queue of B too.
    assert callers.entered == [1, 4, 2]
    await callers.release(2)
    assert callers.entered == [1, 4, 2, 3]
    callers.released |= {3, 4}
    await asyncio.gather(*callers.tasks.values())


async def test_a_cancelled_call_lets_others_pass_but_not_overtake(callers: Callers) -> None:
    await callers.call(1, ["A"])
    await callers.call(2, ["A", "B"])
    await callers.call(3, ["A", "B"])
    callers.tasks[2].cancel()
    await callers.rest()
    assert callers.entered == [1]
    callers.released |= {1, 3}
    await callers.tasks[3]
    assert callers.entered == [1, 3]


@pytest.mark.parametrize("seed", range(20))
async def test_random_calls_keep_the_order_of_each_terminal(callers: Callers, seed: int) -> None:
    random = Random(seed)
    sns = {number: random.sample("ABCD", random.randint(0, 4)) for number in range(30)}
    for number, its_sns in sns.items():
        await callers.call(number, its_sns)
        for one in random.sample(range(number + 1), min(number + 1, 2)):
            callers.released.add(one)
            if random.random() < 0.1:
                callers.tasks[one].cancel()
    callers.released |= sns.keys()
    await asyncio.gather(*callers.tasks.values(), return_exceptions=True)
    for sn in "ABCD":
        of_terminal = [number for number in callers.entered if sn in sns[number]]
        assert of_terminal == sorted(of_terminal)
