"""Several runs of the tests on one machine use different ports."""

import subprocess
import sys
from contextlib import ExitStack

from tests.support.facebridge import command_environment
from tests.support.ports import free_port

_PROGRAM = """
import sys
from tests.support.ports import free_port
print(free_port(), free_port(), flush=True)
sys.stdin.read()
"""


def test_other_runs_get_other_ports() -> None:
    environment = {**command_environment(), "PYTEST_XDIST_WORKER": "gw0"}
    ports = [free_port()]
    with ExitStack() as stack:
        for _ in range(3):
            run = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )  # fmt: skip
            stack.enter_context(run)
            assert run.stdout is not None
            ports += map(int, run.stdout.readline().split())
    assert len(ports) == 7
    assert len(set(ports)) == 7, ports
