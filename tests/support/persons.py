"""A persons' service without persons, for tests of other parts."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.core.ports import PersonCommand
from bridge.model.faults import UnavailableError
from bridge.model.reply import Reply
from bridge.model.terminal import PersonCounts


class NoPersons:
    """Refuses changes, and notes which terminals were forgotten.

    Attributes:
        following: set when terminals begin to follow their groups.
        may_follow: they have followed their groups once this is set.
    """

    def __init__(self) -> None:
        self.following = asyncio.Event()
        self.may_follow = asyncio.Event()
        self.may_follow.set()
        self.forgotten: list[str] = []
        self.full = False
        self.followed: list[str] = []
        self.numbers: dict[str, PersonCounts] = {}
        self.kept: dict[str, int] = {}

    async def change(
        self,
        commands: Sequence[PersonCommand],
        publish: Callable[[PersonCommand, Sequence[Reply]], None] | None = None,
    ) -> Sequence[Sequence[Reply]]:
        raise AssertionError(f"no person change was expected, got {len(commands)}")

    def must_wait(self, command: PersonCommand) -> bool:
        return False

    async def forget_deliveries(self) -> None:
        raise AssertionError("no session of the broker was expected")

    async def persons(self, sn: str, person_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        return []

    def counts(self, sn: str) -> PersonCounts:
        return self.numbers.get(sn, PersonCounts())

    def group_size(self, group: str) -> int:
        return 0

    def group_sizes(self) -> dict[str, int]:
        return self.kept

    async def follow_groups(self, *sns: str) -> None:
        if self.full:
            raise UnavailableError("the store is full")
        self.following.set()
        await self.may_follow.wait()
        self.followed += sns

    async def forget(self, sn: str) -> None:
        self.forgotten.append(sn)
