"""The folder that the app is built and published from."""

import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).parents[2] / "scripts" / "assemble-app"


def assemble(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run `scripts/assemble-app`."""
    return subprocess.run(
        [_SCRIPT, tree], env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
