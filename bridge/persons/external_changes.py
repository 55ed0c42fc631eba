"""Notices what another program (`facebridge persons …`) has changed in the store of this bridge."""

import asyncio
import logging

from bridge.model.faults import UnavailableError
from bridge.persons.ports import PersonStore
from bridge.persons.transaction_runner import TransactionRunner

_LOGGER = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks: at once for whoever waits for it, and half a millisecond of work each."""

_PAUSE = 5.0
"""Seconds before a store that failed is asked again."""


class ExternalChanges:
    """Looks for changes, and has them counted, sent and told."""

    def __init__(self, store: PersonStore, commits: TransactionRunner) -> None:
        self._store = store
        self._commits = commits

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                if await self._store.outside_changes():
                    await self._commits.take_outside_changes()
                await asyncio.sleep(INTERVAL)
            except UnavailableError as error:
                _LOGGER.warning("cannot see whether persons were changed from outside: %s", error)
                await asyncio.sleep(_PAUSE)
