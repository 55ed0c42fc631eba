"""The doctor in a process of its own, so that its checks take no time from the event loop of the running bridge."""

import asyncio
import os
import pickle
import secrets
import sys
from contextlib import suppress
from dataclasses import replace

from bridge.config.settings import Settings
from bridge.core.clock import Clock
from bridge.doctor.findings import Finding
from bridge.model.faults import UnavailableError

LISTEN_SECONDS = 6.0
"""Time to observe the broker, as on the command line."""

_TIMEOUT_SECONDS = 600.0
"""Time for the process: the check of a large store takes up to five minutes."""

_NICENESS = 10
"""Presses come first."""


async def find_in_process(settings: Settings, listen_seconds: float = LISTEN_SECONDS) -> list[Finding]:
    """Run all checks in a process, and return the findings. A cancelled run ends the process.

    Args:
        settings: the configuration of the running bridge.
        listen_seconds: how long to observe the broker.

    Raises:
        UnavailableError: the process failed or did not end in time.
    """
    if settings.mqtt.is_embedded:
        # As in the file: the doctor knows how to reach the embedded broker.
        settings = replace(settings, mqtt=replace(settings.mqtt, host=None))
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise UnavailableError(f"the doctor cannot be started: {error.strerror}") from None
    try:
        # The configuration has passwords, so it is passed over a pipe.
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            output, _ = await process.communicate(pickle.dumps((settings, listen_seconds)))
    except TimeoutError:
        raise UnavailableError(f"the doctor did not end within {_TIMEOUT_SECONDS:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    if process.returncode != 0:
        raise UnavailableError(f"the doctor failed (exit code {process.returncode}): run `facebridge doctor`")
    findings: list[Finding] = pickle.loads(output)  # noqa: S301  written by the function below
    return findings


def main() -> None:
    """Read the configuration from stdin, run all checks, and write the findings to stdout."""
    from bridge.doctor.checks import DoctorRun
    from bridge.doctor.probe import BrokerAccess

    os.nice(_NICENESS)
    settings, listen_seconds = pickle.load(sys.stdin.buffer)  # noqa: S301  written by the function above
    access = BrokerAccess.of(settings.mqtt, secrets.token_hex(4), Clock())
    findings = asyncio.run(DoctorRun(settings, settings.file, access, listen_seconds).run())
    sys.stdout.buffer.write(pickle.dumps(findings))


if __name__ == "__main__":
    main()
