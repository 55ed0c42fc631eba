"""Terminals as bad days make them: slow, silent, cut off in the middle of an answer, away."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from bridge.simulator.behaviour import Behaviour, Drop, Garbage, Refusal
from bridge.simulator.terminal import SimulatedTerminal


class FaultyTerminals:
    """Simulated terminals that change their behaviour all the time, until `calm`."""

    def __init__(self, url: str, sns: Sequence[str], random: Random, *, refusing: Sequence[str] = ()) -> None:
        """Take where they connect, who they are, the dice, and which of them refuse now and then."""
        self.terminals: Mapping[str, SimulatedTerminal] = {
            sn: SimulatedTerminal(url, sn, first_retry=0.05, last_retry=0.3) for sn in sns
        }
        self._dice = {sn: Random(random.random()) for sn in sns}
        self._refusing = refusing
        self._calm = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultyTerminals"]:
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(self._live(sn), name=f"faulty terminal {sn}") for sn in self.terminals]
            try:
                yield self
            finally:
                for life in lives:
                    life.cancel()

    def calm(self) -> None:
        """Let all of them behave from now on, and stay."""
        self._calm.set()

    async def _live(self, sn: str) -> None:
        terminal, dice = self.terminals[sn], self._dice[sn]
        while not self._calm.is_set():
            if dice.random() < 0.4:
                await self._pause(dice.uniform(0.1, 2))
            async with terminal.running():
                for _ in range(dice.randrange(2, 10)):
                    await self._have_a_mood(terminal, dice)
        async with terminal.running():
            await asyncio.Event().wait()

    async def _have_a_mood(self, terminal: SimulatedTerminal, dice: Random) -> None:
        bad = [
            Behaviour(answer_delay=dice.uniform(0.01, 0.4)),
            Behaviour(answer_delay=dice.uniform(0.01, 0.1), garbage=dice.choice(list(Garbage))),
            Behaviour(drop=dice.choice(list(Drop))),
            Behaviour(silent=True),
        ]
        if terminal.sn in self._refusing:
            bad.append(Behaviour(refusal=Refusal(7, "no more room")))
        terminal.behaviour = Behaviour() if dice.random() < 0.5 else dice.choice(bad)
        await self._pause(dice.uniform(0.05, 0.6))
        silent = terminal.behaviour.silent
        terminal.behaviour = Behaviour()
        if silent:
            # What it has carried out and not answered is sent again once it is back, else after 20 s only.
            await terminal.disconnect(dice.choice(list(Drop)))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._calm.wait()
        except TimeoutError:
            return
