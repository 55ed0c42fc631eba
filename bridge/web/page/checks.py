"""The doctor's findings for the page: one run at a time, in the background, kept until the next one."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.core.clock import Clock
from bridge.core.tasks import BackgroundTasks
from bridge.model.faults import UnavailableError

MIN_INTERVAL_SECONDS = 10.0
"""Between the end of a run and the start of the next one: the checks use the broker and read the whole store."""


LEVELS = ("wrong", "warning", "hint", "ok")
"""The levels of findings, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFinding:
    """A finding as the page shows it.

    Attributes:
        code: its stable name, explained in docs/doctor.md.
        area: the part of the system that it is about.
        level: how serious it is: one of `LEVELS`.
        what: the fact.
        to_do: the remedy; empty if there is nothing to do.
    """

    code: str
    area: str
    level: str
    what: str
    to_do: str


FindProblems = Callable[[], Awaitable[Sequence[HealthFinding]]]
"""Runs all checks outside the event loop, and returns the findings. Raises UnavailableError."""


class BackgroundChecks:
    """The findings of the last run.

    Attributes:
        findings: the worst first; empty before the first run.
        started_at: when the present run started; None: no run.
        ended_at: when the last run ended; None before the first one.
        error: why the last run failed; None: it did not.
    """

    def __init__(self, find_problems: FindProblems, clock: Clock) -> None:
        self._find_problems = find_problems
        self._clock = clock
        self._tasks = BackgroundTasks()
        self._ended_boottime = float("-inf")
        self.findings: Sequence[HealthFinding] = ()
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.error: str | None = None

    def start(self) -> None:
        """Start a run, unless one runs or has just ended."""
        is_fresh = self._clock.boottime() - self._ended_boottime < MIN_INTERVAL_SECONDS
        if self.started_at is None and not is_fresh:
            self.started_at = self._clock.now()
            self._tasks.start(self._run(), name="checks of the page")

    async def stop(self) -> None:
        """End the present run."""
        await self._tasks.stop()

    async def _run(self) -> None:
        try:
            findings = await self._find_problems()
            self.findings = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
            self.error = None
        except UnavailableError as error:
            self.error = str(error)
        finally:
            self.started_at = None
            self.ended_at = self._clock.now()
            self._ended_boottime = self._clock.boottime()
