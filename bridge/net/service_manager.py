"""State notifications to the service manager that started the bridge (sd_notify(3))."""

import os
import socket
from contextlib import suppress


def notify_service_manager(state: str) -> None:
    """Send a state, such as `READY=1`, to the socket that systemd names in `NOTIFY_SOCKET`.

    Does nothing without that variable. Errors are ignored: the service manager has its own time-out for a
    missing notification.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        # The variable writes an abstract socket with "@"; the kernel expects a zero byte.
        out.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
