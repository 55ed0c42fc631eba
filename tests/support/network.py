"""A host of its own for a terminal, in a network namespace, with a cable that can be pulled."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from secrets import token_hex


class Host:
    """Another host, linked to this one by a pair of virtual interfaces."""

    def __init__(self) -> None:
        mark = token_hex(3)
        # Set aside for tests of network devices (RFC 2544); one of its 32,768 parts that hold two hosts.
        first = IPv4Address("198.18.0.0") + int(mark, 16) % 2**15 * 4
        self.name = f"fb{mark}"
        self.outside = str(first + 1)
        self.inside = str(first + 2)

    @asynccontextmanager
    async def linked(self) -> AsyncIterator["Host"]:
        """Make the host, and take it away at the end."""
        assert os.geteuid() == 0, "a host of its own needs root: run the tests as root, or in a container that is"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", f"v{self.name}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("addr", "add", f"{self.outside}/30", "dev", f"v{self.name}")
            _ip("link", "set", f"v{self.name}", "up")
            _ip("-n", self.name, "addr", "add", f"{self.inside}/30", "dev", "eth0")
            self.plug()
            yield self
        finally:
            # Sockets that still wait for an answer keep the namespace, and with it the link and its addresses: another
            # host of the same addresses would not be reached.
            subprocess.run(["ip", "link", "del", f"v{self.name}"], check=False, capture_output=True)
            _ip("netns", "del", self.name)

    def pull(self) -> None:
        """Pull the cable: nothing goes through, and nobody is told."""
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def plug(self) -> None:
        """Plug the cable in."""
        _ip("-n", self.name, "link", "set", "eth0", "up")

    async def run(self, *command: str) -> asyncio.subprocess.Process:
        """Run a program on it."""
        return await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.name, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
