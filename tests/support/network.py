"""A simulated host in a network namespace, with a cable that can be pulled."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from secrets import token_hex


class Host:
    """Another host, linked to this one by a pair of virtual interfaces.

    Attributes:
        name: of the network namespace.
        outside: this machine's address on the link.
        inside: the host's address on the link.
    """

    def __init__(self) -> None:
        suffix = token_hex(3)
        # One of the 32,768 networks of two hosts in the range that is reserved for tests (RFC 2544).
        first = IPv4Address("198.18.0.0") + int(suffix, 16) % 2**15 * 4
        self.name = f"fb{suffix}"
        self.outside = str(first + 1)
        self.inside = str(first + 2)

    @asynccontextmanager
    async def linked(self) -> AsyncIterator["Host"]:
        """Create the host, and delete it at the end."""
        assert os.geteuid() == 0, "a network namespace needs root: run the tests as root, or as root of a container"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", f"v{self.name}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("addr", "add", f"{self.outside}/30", "dev", f"v{self.name}")
            _ip("link", "set", f"v{self.name}", "up")
            _ip("-n", self.name, "addr", "add", f"{self.inside}/30", "dev", "eth0")
            self.plug()
            yield self
        finally:
            # Open sockets keep the namespace, and with it the link and its addresses. Without deleting the link, a
            # later host with the same addresses would be unreachable.
            subprocess.run(["ip", "link", "del", f"v{self.name}"], check=False, capture_output=True)
            _ip("netns", "del", self.name)

    def pull(self) -> None:
        """Pull the cable: packets are lost, and connections stay open."""
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def plug(self) -> None:
        """Plug the cable in."""
        _ip("-n", self.name, "link", "set", "eth0", "up")

    def lose_outgoing(self) -> None:
        """Lose every packet from the host, acknowledgements included; packets to it arrive."""
        _ip("-n", self.name, "route", "add", "blackhole", f"{self.outside}/32")

    async def run(self, *command: str) -> asyncio.subprocess.Process:
        """Run a program on the host."""
        return await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.name, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
