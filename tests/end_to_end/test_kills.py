"""Promise 2, whole: `kill -9` of the bridge at any moment, over and over, restarts of the broker, bad terminals.

Every terminal must end with exactly the last value of each person, and whoever asked must have had the last word on
each change. `FACEBRIDGE_SEED` repeats a run with the same dice.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kill_test import KillTest, Scale
from tests.support.killable_bridge import seed_from_environment
from tests.support.postgresql import PostgreSQL

STORE = "sqlite:///facebridge.db"
SHORT = Scale(kills=3, broker_restarts=1, rate=60, persons=12, replies_a_life=150, end=30)
MIDDLE = Scale(kills=15, broker_restarts=3, rate=60, persons=30, replies_a_life=400, end=60)
LONG = Scale(kills=60, broker_restarts=10, rate=60, persons=40, replies_a_life=400, end=120)


async def survives(folder: Path, scale: Scale, report: Callable[[str, object], None], store: str = STORE) -> None:
    seed = seed_from_environment()
    print(f"FACEBRIDGE_SEED={seed}")
    run = KillTest(folder, store, scale, seed)
    faults = await run.run()
    report("counts", f"{run.counts} (seed {seed})")
    assert faults == [], f"FACEBRIDGE_SEED={seed}: {run.counts}"


@pytest.mark.timeout(120)
async def test_persons_survive_a_few_kills(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    await survives(tmp_path, SHORT, record_property)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_persons_survive_dozens_of_kills(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    await survives(tmp_path, LONG, record_property)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_persons_survive_kills_on_postgresql(
    tmp_path: Path, postgresql: PostgreSQL, record_property: Callable[[str, object], None]
) -> None:
    await survives(tmp_path, MIDDLE, record_property, await postgresql.new_url())
