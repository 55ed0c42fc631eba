"""A real Mosquitto of the tests' own: on a free port, frozen, restarted, with or without a memory."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_PATIENCE = 10.0
"""Seconds for a broker that starts or ends in a tenth of one."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """A broker; `async with` starts and stops it.

    Args:
        folder: of its own, for configuration and memory.
        options: further lines of its configuration.
        persistent: whether it remembers over a restart.
        anonymous: whether it asks nobody for a password.
    """

    def __init__(
        self, folder: Path, options: Sequence[str] = (), *, persistent: bool = False, anonymous: bool = True
    ) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = tuple(options)
        self._persistent = persistent
        self._anonymous = anonymous
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text("\n".join(self._lines()) + "\n")
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "mosquitto is not installed; scripts/test does that"
        log = (self._folder / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [program, "-c", str(configuration)], stdout=log, stderr=log, cwd=self._folder
            )
        async with asyncio.timeout(_PATIENCE):
            while True:
                assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def stop(self) -> None:
        """End it in order: it writes down what it remembers."""
        self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """End it in order and start it again on the same port."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """Stop it where it is; its sockets stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Let it read its passwords again."""
        self._signal(signal.SIGHUP)

    def set_passwords(self, passwords: dict[str, str]) -> None:
        """Write the passwords it asks for, and let it read them where it runs."""
        file = self._folder / "passwords"
        file.touch()
        for user, password in passwords.items():
            subprocess.run(["mosquitto_passwd", "-b", str(file), user, password], check=True, capture_output=True)
        if self._process is not None:
            self.reload()

    def _lines(self) -> list[str]:
        # Debian's Mosquitto leaves root for a user who could not read the folder.
        lines = [f"listener {self.port} 127.0.0.1", "user root", "log_type error", "log_type warning"]
        if self._anonymous:
            lines.append("allow_anonymous true")
        else:
            lines += ["allow_anonymous false", f"password_file {self._folder / 'passwords'}"]
        if self._persistent:
            lines += ["persistence true", f"persistence_location {self._folder}/", "autosave_interval 1"]
        return [*lines, *self._options]

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        # One that is frozen hears of its end only when it goes on.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
