"""An nginx process for tests, with the configuration of examples/nginx on free ports."""

import asyncio
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS

SHIPPED = Path(__file__).parents[2] / "examples" / "nginx" / "facebridge.conf"

BUFFERING = """
        proxy_buffering on;
        proxy_ignore_headers X-Accel-Buffering;
        gzip on;
        gzip_proxied any;
        gzip_types text/event-stream application/json;
"""
"""Settings of a proxy that holds streams back: it compresses them, and it does not obey the bridge's header."""

_MAIN = """
daemon off;
master_process off;
worker_rlimit_nofile 4096;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
    access_log off;
    {temporary}
    include {folder}/facebridge.conf;
}}
"""


class Nginx:
    """An nginx that ends TLS in front of a bridge.

    Args:
        folder: a folder for its files.
        path: the path below which it serves the page.
        extra: more settings of the location.

    Attributes:
        port: the port for HTTPS.
        url: the address of the page, without a slash at the end.
        tls: trusts the certificate.
    """

    def __init__(self, folder: Path, path: str = "/", extra: str = "") -> None:
        self.port = free_port()
        self.url = f"https://localhost:{self.port}{path}".rstrip("/")
        self._folder = folder
        self._path = path
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        authority = trustme.CA()
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)
        folder.mkdir()
        certificate = authority.issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))

    @asynccontextmanager
    async def running(self, bridge_port: int) -> AsyncIterator["Nginx"]:
        """Run it in front of a bridge."""
        self._configure(bridge_port)
        await self.start()
        try:
            yield self
        finally:
            self.stop()

    async def start(self) -> None:
        """Start nginx, and wait until it accepts connections."""
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        assert Path(program).exists(), "nginx is missing: run scripts/test --all, which installs it"
        with (self._folder / "nginx.log").open("ab") as log:
            command = [program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                assert self._process.poll() is None, (self._folder / "nginx.log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

    def stop(self) -> None:
        """Stop nginx and close all its connections."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)

    def _configure(self, bridge_port: int) -> None:
        text = SHIPPED.read_text()
        for pattern, replacement in (
            (r"listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            (r"server_name .*;", "server_name localhost;"),
            (r"(ssl_certificate(?:_key)?) .*;", rf"\1 {self._folder}/both.pem;"),
            (r"location / \{\n", f"location {self._path} {{\n{self._extra}"),
            (r"127\.0\.0\.1:8099", f"127.0.0.1:{bridge_port}"),
        ):
            text, count = re.subn(pattern, replacement, text)
            assert count >= 1, pattern
        (self._folder / "facebridge.conf").write_text(text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n    ".join(f"{kind}_temp_path {self._folder}/{kind};" for kind in kinds)
        (self._folder / "nginx.conf").write_text(_MAIN.format(folder=self._folder, temporary=temporary))
