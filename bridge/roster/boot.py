"""Which start of the machine this is, so that a `Clock.boottime` read back from the store is not misread."""

import uuid
from pathlib import Path

_KERNEL = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> str:
    """Return the kernel's id of this start; where there is none, one that never matches a stored one."""
    try:
        return _KERNEL.read_text().strip()
    except OSError:
        return str(uuid.uuid4())
