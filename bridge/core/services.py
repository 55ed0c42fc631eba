"""The parts of the core that an adapter calls and listens to."""

from dataclasses import dataclass

from bridge.core.admission import Admission
from bridge.core.bridge_warnings import BridgeWarnings
from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import DesiredPersons
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreServices:
    """The parts of the core, as one argument of an adapter.

    Attributes:
        clock: ages and times are read from it.
        events: publishes what happens.
        registry: the known terminals.
        presses: carries out `open` and `reboot`.
        persons: carries out person commands.
        desired_persons: counts each terminal's persons.
        admission: approves and forgets terminals.
        warnings: the promises that do not hold now.
    """

    clock: Clock
    events: EventBus
    registry: TerminalRegistry
    presses: Presses
    persons: PersonCommands
    desired_persons: DesiredPersons
    admission: Admission
    warnings: BridgeWarnings
