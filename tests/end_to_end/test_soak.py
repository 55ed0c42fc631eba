"""Both promises at once, under random faults.

Presses must be carried out within the deadline or not at all, once, and with one true reply each. Each terminal must
hold at the end what the newest accepted changes say. `FACEBRIDGE_SOAK_SECONDS` sets the duration, and `FACEBRIDGE_SEED`
repeats the random choices of a run.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.killable_bridge import seed_from_environment
from tests.support.soak.run import SETTLE_SECONDS, SoakRun

SECONDS = float(os.environ.get("FACEBRIDGE_SOAK_SECONDS", "90"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 3 * SETTLE_SECONDS)
async def test_soak(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    seed = seed_from_environment()
    print(f"FACEBRIDGE_SEED={seed}")
    run = SoakRun(tmp_path, seed, SECONDS)
    faults = await run.run()
    # In full; pytest shortens it in the message of the assertion.
    print(run.figures, *faults, sep="\n")
    record_property("counts", f"{run.figures} (seed {seed})")
    assert faults == [], f"FACEBRIDGE_SEED={seed}: {run.figures}"
