"""Simulated terminals with random faults: slow or missing answers, lost connections, garbage, absence."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from bridge.simulator.behaviour import Behaviour, Drop, Garbage, Refusal
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal


class FaultyTerminals:
    """Simulated terminals that change their behaviour at random until `stop_faults`.

    Args:
        url: where they connect.
        sns: their serial numbers.
        random: the source of all their faults.
        refusing: serial numbers of those that also refuse commands now and then.
    """

    def __init__(self, url: str, sns: Sequence[str], random: Random, *, refusing: Sequence[str] = ()) -> None:
        self.terminals: Mapping[str, SimulatedTerminal] = {
            sn: SimulatedTerminal(url, sn, options=ConnectionOptions(first_retry_seconds=0.05, max_retry_seconds=0.3))
            for sn in sns
        }
        self._randoms = {sn: Random(random.random()) for sn in sns}
        self._refusing = refusing
        self._faultless = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultyTerminals"]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run(sn), name=f"faulty terminal {sn}") for sn in self.terminals]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    def stop_faults(self) -> None:
        """Let all terminals stay connected and answer correctly from now on."""
        self._faultless.set()

    async def _run(self, sn: str) -> None:
        terminal, random = self.terminals[sn], self._randoms[sn]
        while not self._faultless.is_set():
            if random.random() < 0.4:
                await self._pause(random.uniform(0.1, 2))
            async with terminal.running():
                for _ in range(random.randrange(2, 10)):
                    await self._behave_at_random(terminal, random)
        async with terminal.running():
            await asyncio.Event().wait()

    async def _behave_at_random(self, terminal: SimulatedTerminal, random: Random) -> None:
        faults = [
            Behaviour(answer_delay=random.uniform(0.01, 0.4)),
            Behaviour(answer_delay=random.uniform(0.01, 0.1), garbage=random.choice(list(Garbage))),
            Behaviour(drop=random.choice(list(Drop))),
            Behaviour(silent=True),
        ]
        if terminal.sn in self._refusing:
            faults.append(Behaviour(refusal=Refusal(7, "no more room")))
        terminal.behaviour = Behaviour() if random.random() < 0.5 else random.choice(faults)
        await self._pause(random.uniform(0.05, 0.6))
        silent = terminal.behaviour.silent
        terminal.behaviour = Behaviour()
        if silent:
            # After a reconnect the bridge repeats at once what was not answered; without one it waits for 20 s.
            await terminal.disconnect(random.choice(list(Drop)))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._faultless.wait()
        except TimeoutError:
            return
