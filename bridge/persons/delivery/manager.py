"""Keeps a courier on the way to every terminal that is connected and has something pending."""

from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.core.tasks import BackgroundTasks
from bridge.model.events import TerminalConnected, TerminalDisconnected, TerminalForgotten
from bridge.persons.delivery.worker import DeliveryContext, DeliveryWorker
from bridge.persons.transaction import Committed
from bridge.persons.transaction_runner import TransactionRunner


class DeliveryManager:
    """Starts couriers where there is work; a terminal without any costs nothing."""

    def __init__(
        self, registry: TerminalRegistry, events: EventBus, commits: TransactionRunner, means: DeliveryContext
    ) -> None:
        self._registry = registry
        self._commits = commits
        self._means = means
        self._couriers: dict[str, DeliveryWorker] = {}
        self._running: set[DeliveryWorker] = set()
        self._tasks = BackgroundTasks()
        self._stopped = False
        events.subscribe(TerminalConnected, lambda event: self._look(event.sn), name="roster delivery")
        events.subscribe(TerminalDisconnected, lambda event: self._look(event.sn), name="roster delivery")
        events.subscribe(TerminalForgotten, self._forgotten, name="roster delivery")
        commits.listen(self._committed)

    def start(self) -> None:
        """Begin with the terminals that are connected already."""
        for known in self._registry:
            self._look(known.terminal.sn)

    async def stop(self) -> None:
        """Send nothing more and wait for no answer any more."""
        self._stopped = True
        await self._tasks.stop()
        for courier in self._couriers.values():
            courier.close()
        self._couriers.clear()

    def _committed(self, committed: Committed) -> None:
        for sn in committed.counts:
            self._look(sn, changed=sn in committed.changed, recorded=True)

    def _look(self, sn: str, *, changed: bool = False, recorded: bool = False) -> None:
        known = self._registry.get(sn)
        if known is None or self._stopped:
            return
        courier = self._couriers.get(sn)
        if courier is None:
            if known.connection is None or not self._is_pending(sn):
                return
            courier = self._couriers[sn] = DeliveryWorker(known, self._means, lambda: self._is_pending(sn))
        courier.wake(changed=changed, recorded=recorded)
        if courier not in self._running and known.connection is not None:
            self._running.add(courier)
            self._tasks.start(self._run(sn, courier), name=f"delivery to terminal {sn}")

    def _is_pending(self, sn: str) -> bool:
        counts = self._commits.counts.get(sn)
        return counts is not None and counts.pending > 0

    async def _run(self, sn: str, courier: DeliveryWorker) -> None:
        done = False
        try:
            done = await courier.run()
        finally:
            self._running.discard(courier)
            if done:
                self._drop(sn, courier)

    def _forgotten(self, event: TerminalForgotten) -> None:
        courier = self._couriers.get(event.sn)
        if courier is not None:
            self._drop(event.sn, courier)
            courier.wake(changed=True)

    def _drop(self, sn: str, courier: DeliveryWorker) -> None:
        courier.close()
        if self._couriers.get(sn) is courier:
            del self._couriers[sn]
