"""Telling a service manager that started the bridge how it is (sd_notify(3)); without one nobody is told."""

import os
import socket
from contextlib import suppress


def tell_service_manager(state: str) -> None:
    """Send a state, such as `READY=1`, to the socket that systemd names in `NOTIFY_SOCKET`.

    A service manager that cannot be told is no reason to fail: it notices by itself that nothing came.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        # An abstract socket is written with @, and begins with a zero byte.
        out.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
