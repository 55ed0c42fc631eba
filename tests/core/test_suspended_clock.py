"""The clock of the presses goes on while the machine is suspended.

A time namespace (time_namespaces(7)) lets CLOCK_BOOTTIME of a running process jump while CLOCK_MONOTONIC does not. Both
clocks do so when a suspended machine continues.
"""

from pathlib import Path

from tests.support.facebridge import python_process

_PROGRAM = """
import ctypes, os, subprocess, time
from bridge.core.clock import Clock, StallDetector
from bridge.mqtt.lease import Lease

SUSPENDED_SECONDS = 60
CLONE_NEWTIME = 0x80

def suspend():
    # `sleep` holds the namespace; its clock is ahead.
    holder = subprocess.Popen(["unshare", "-T", "--boottime", str(SUSPENDED_SECONDS), "sleep", "60"])
    try:
        own = os.readlink("/proc/self/ns/time")
        while os.readlink(f"/proc/{holder.pid}/ns/time") == own:
            time.sleep(0.01)
        monotonic, boottime = time.monotonic(), Clock().boottime()
        namespace = os.open(f"/proc/{holder.pid}/ns/time", os.O_RDONLY)
        assert ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWTIME) == 0, ctypes.get_errno()
        assert time.monotonic() - monotonic < 30
        assert Clock().boottime() - boottime >= SUSPENDED_SECONDS
    finally:
        holder.kill()

def echo(lease):
    lease.echo(lease.next_heartbeat())

clock = Clock()
numbers = iter(range(10_000))
lease = Lease(clock, 1.0, lambda: str(next(numbers)))
while not lease.ready:
    echo(lease)
    time.sleep(lease.interval)
detector = StallDetector(clock)
suspend()
# A press that waited in a buffer through the suspension arrives before the next echo, or after it.
print(clock.boottime() - lease.requested_at() >= SUSPENDED_SECONDS)
echo(lease)
print(lease.requested_at())
print(clock.boottime() - detector.arrived_at() >= SUSPENDED_SECONDS)
"""


async def test_a_request_from_before_the_suspension_is_old(tmp_path: Path) -> None:
    result = await python_process(tmp_path, "-c", _PROGRAM)
    assert result.code == 0, result.stderr
    assert result.stdout.split() == ["True", "None", "True"]
