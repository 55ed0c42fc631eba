"""Promise 2 while the bridge is killed at random moments, the broker restarts and terminals are faulty.

At the end each terminal must hold exactly the last value of each person, and each change must have had its final
reply. `FACEBRIDGE_SEED` repeats a run with the same random choices.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kill_run import KillRun, Scale
from tests.support.killable_bridge import seed_from_environment
from tests.support.postgresql import PostgreSQL

STORE = "sqlite:///facebridge.db"
SMALL = Scale(kills=3, broker_restarts=1, changes_per_second=60, persons=12, max_replies_per_run=150, settle_seconds=30)
MEDIUM = Scale(
    kills=15, broker_restarts=3, changes_per_second=60, persons=30, max_replies_per_run=400, settle_seconds=60
)
LARGE = Scale(
    kills=60, broker_restarts=10, changes_per_second=60, persons=40, max_replies_per_run=400, settle_seconds=120
)


async def run_without_faults(
    folder: Path, scale: Scale, report: Callable[[str, object], None], store: str = STORE
) -> None:
    seed = seed_from_environment()
    print(f"FACEBRIDGE_SEED={seed}")
    run = KillRun(folder, store, scale, seed)
    faults = await run.run()
    # In full; pytest shortens it in the message of the assertion.
    print(*faults, sep="\n")
    report("counts", f"{run.counts} (seed {seed})")
    assert faults == [], f"FACEBRIDGE_SEED={seed}: {run.counts}"


@pytest.mark.timeout(120)
async def test_few_kills(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    await run_without_faults(tmp_path, SMALL, record_property)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_dozens_of_kills(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    await run_without_faults(tmp_path, LARGE, record_property)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_kills_with_postgresql(
    tmp_path: Path, postgresql: PostgreSQL, record_property: Callable[[str, object], None]
) -> None:
    await run_without_faults(tmp_path, MEDIUM, record_property, await postgresql.new_url())
