"""An HAProxy process for tests, with the configuration of examples/haproxy on free ports."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS

SHIPPED = Path(__file__).parents[2] / "examples" / "haproxy" / "haproxy.cfg"


class HAProxy:
    """An HAProxy in front of a bridge.

    Args:
        folder: a folder for its files.
        bridge_port: the bridge's port for terminals, on 127.0.0.1.
        text: a configuration to use in place of the example.

    Attributes:
        plain_port: its port for `ws`.
        tls_port: its port for `wss`.
        authority: the file of the certificate, which is self-signed.
    """

    def __init__(self, folder: Path, bridge_port: int, text: str | None = None) -> None:
        self.plain_port, self.tls_port = free_port(), free_port()
        self.authority = folder / "certificate.pem"
        self._folder = folder
        self._bridge_port = bridge_port
        self._file = SHIPPED
        if text is not None:
            self._file = folder / "haproxy.cfg"
            self._file.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, host: str, *, tls: bool = False) -> str:
        """Return the URL to which terminals connect."""
        scheme, port = ("wss", self.tls_port) if tls else ("ws", self.plain_port)
        return f"{scheme}://dev:123@{host}:{port}/devs/"

    @asynccontextmanager
    async def running(self, address: str = "127.0.0.1") -> AsyncIterator["HAProxy"]:
        """Run HAProxy with a certificate for an address."""
        self._make_certificate(address)
        await self.start()
        try:
            yield self
        finally:
            self.stop()

    def check(self) -> str:
        """Check the configuration with `haproxy -c`; return its output."""
        done = subprocess.run(
            [self._program(), "-c", "-f", self._file], env=self._environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    async def start(self) -> None:
        """Start HAProxy in master-worker mode, as Debian's unit does, and wait until it accepts connections."""
        log = (self._folder / "haproxy.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._program(), "-W", "-f", self._file], env=self._environment(), stdout=log, stderr=log
            )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                assert self._process.poll() is None, (self._folder / "haproxy.log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.plain_port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

    def reload(self) -> None:
        """Reload the configuration, as `systemctl reload haproxy` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)

    def stop(self) -> None:
        """Stop HAProxy and close all its connections."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "FACEBRIDGE_PLAIN": f":{self.plain_port}",
            "FACEBRIDGE_TLS": f":{self.tls_port}",
            "FACEBRIDGE_BRIDGE": f"127.0.0.1:{self._bridge_port}",
            # A connection needs two file descriptors, and a shell's limit is lower than that of a systemd service.
            "FACEBRIDGE_MAXIMUM": "9000",
            "FACEBRIDGE_CERTIFICATE": str(self._folder / "both.pem"),
        }

    def _make_certificate(self, address: str) -> None:
        key = self._folder / "key.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc",
                "-days", "2", "-subj", "/CN=Facebridge", "-addext", f"subjectAltName=IP:{address}",
                "-keyout", key, "-out", self.authority,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        (self._folder / "both.pem").write_text(self.authority.read_text() + key.read_text())

    @staticmethod
    def _program() -> str:
        program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "haproxy is not installed: run scripts/test --all, which installs it"
        return program
