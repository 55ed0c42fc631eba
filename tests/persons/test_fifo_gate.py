"""Calls take effect in the order they were made."""

import asyncio

from bridge.persons.fifo_gate import FifoGate


async def test_the_first_to_come_is_the_first_to_go() -> None:
    turns = FifoGate()
    done: list[int] = []
    ready = [asyncio.Event() for _ in range(4)]

    async def call(number: int) -> None:
        with turns.place() as turn:
            await ready[number].wait()
            await turn()
            done.append(number)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(number)) for number in range(4)]
        await asyncio.sleep(0)
        ready[3].set()
        ready[1].set()
        await asyncio.sleep(0)
        assert done == []
        # One that gives up while it waits for its turn neither lets others past nor holds them up.
        tasks[1].cancel()
        await asyncio.sleep(0)
        ready[0].set()
        ready[2].set()
    assert done == [0, 2, 3]


async def test_a_failure_makes_room() -> None:
    turns = FifoGate()
    try:
        with turns.place() as turn:
            await turn()
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    with turns.place() as turn:
        await turn()
