"""Sees to it that a deleted photo can soon be read nowhere any more."""

import asyncio
import logging

from bridge.model.faults import UnavailableError
from bridge.persons.ports import PersonStore
from bridge.persons.transaction import Committed

_LOGGER = logging.getLogger(__name__)

_DELAY = 30.0
"""Seconds that deletions are gathered for: what they cost is a write of everything that changed lately."""


class PhotoGarbageCollector:
    """Has the store let go of deleted photos."""

    def __init__(self, store: PersonStore, delay: float = _DELAY) -> None:
        self._store = store
        self._delay = delay
        self._dropped = asyncio.Event()

    def committed(self, committed: Committed) -> None:
        """Note what a transaction has deleted."""
        if committed.photos_dropped:
            self._dropped.set()

    async def run(self) -> None:
        """Erase until cancelled."""
        while True:
            await self._dropped.wait()
            await asyncio.sleep(self._delay)
            self._dropped.clear()
            try:
                done = await self._store.shed()
            except UnavailableError as error:
                _LOGGER.warning("deleted photos cannot be erased now, trying again: %s", error)
                done = False
            if not done:
                self._dropped.set()
