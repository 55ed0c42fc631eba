"""A real Mosquitto for tests: on a free port, can be frozen and restarted, with or without persistence."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.ports import free_port

_TIMEOUT_SECONDS = 10.0
"""Time to start or stop; the broker needs a tenth of a second."""


class Mosquitto:
    """A broker that `async with` starts and stops.

    Args:
        folder: an empty folder for its configuration and database.
        options: further lines of its configuration.
        persistent: whether it keeps messages and sessions over a restart.
        anonymous: whether clients need no password.
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

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it accepts connections."""
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text("\n".join(self._lines()) + "\n")
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "mosquitto is not installed; scripts/test does that"
        log = (self._folder / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [program, "-c", str(configuration)], stdout=log, stderr=log, cwd=self._folder
            )
        async with asyncio.timeout(_TIMEOUT_SECONDS):
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
        """Stop it with SIGTERM; it writes its database."""
        self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Stop it with SIGKILL."""
        self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop it with SIGTERM and start it again on the same port."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """Stop its execution; its sockets stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue a frozen broker."""
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Let it read its configuration again."""
        self._signal(signal.SIGHUP)

    def set_passwords(self, passwords: dict[str, str]) -> None:
        """Write its password file, and reload it if it runs."""
        file = self._folder / "passwords"
        file.touch()
        for user, password in passwords.items():
            subprocess.run(["mosquitto_passwd", "-b", str(file), user, password], check=True, capture_output=True)
        if self._process is not None:
            self.reload()

    def _lines(self) -> list[str]:
        # Debian's Mosquitto would change from root to a user that cannot read the folder.
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
        # A frozen process handles SIGTERM only after it continues.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
