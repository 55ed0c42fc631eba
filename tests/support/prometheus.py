"""A Prometheus process for tests."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.ports import free_port

_TIMEOUT_SECONDS = 30.0
"""In tests Prometheus scrapes five times a second."""


class Prometheus:
    """A running Prometheus, queried over its HTTP API."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def query(self, expression: str) -> Sequence[Mapping[str, Any]]:
        """Return the series that an expression has now."""
        async with self._http.get("/api/v1/query", params={"query": expression}) as answer:
            result = await answer.json()
        assert result["status"] == "success", (expression, result)
        series: list[dict[str, Any]] = result["data"]["result"]
        return series

    async def wait_until(self, expression: str) -> None:
        """Wait until an expression has at least one series."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                while not await self.query(expression):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"timeout while waiting for {expression}") from None

    async def wait_alert(self, name: str) -> None:
        """Wait until an alert is pending or firing, that is until its condition holds."""
        await self.wait_until(f'ALERTS{{alertname="{name}"}}')


@asynccontextmanager
async def prometheus(folder: Path, configuration: Path, target: str, token_file: Path) -> AsyncIterator[Prometheus]:
    """Run Prometheus with a configuration, but with the test's target and token, and with short intervals."""
    settings = yaml.safe_load(configuration.read_text())
    settings["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms", "scrape_timeout": "200ms"}
    settings["rule_files"] = [str(configuration.parent / name) for name in settings["rule_files"]]
    (job,) = settings["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    job["authorization"] = {"credentials_file": str(token_file)}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                while not await _is_ready(http):
                    assert process.poll() is None, (folder / "log").read_text()
                    await asyncio.sleep(0.05)
            yield Prometheus(http)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def _is_ready(http: aiohttp.ClientSession) -> bool:
    try:
        async with http.get("/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
