"""Rows of the page's lists, with many persons and terminals in the store."""

from functools import partial
from time import perf_counter

import aiohttp

from benchmarks.harness import Metric, Options, Row, System, Values
from benchmarks.loads import percentile
from benchmarks.processes import processor_seconds
from benchmarks.stores import fill_store
from benchmarks.subjects.setting import Setting, SubjectKind
from benchmarks.subjects.starting import Product

PERSONS = 10_000
TERMINALS = 1_000
REQUESTS = 30

LISTS = {
    "terminals": "/",
    "persons": "/persons",
    "search": "/persons?q=Person+99",
    "log": "/log",
    "api-terminals": "/api/terminals?limit=100",
    "api-persons": "/api/persons?limit=100",
}
SMALLEST = "/healthz"
"""The smallest response of the server; its time is that of HTTP itself."""


def prepare(kind: SubjectKind, setting: Setting, options: Options) -> None:
    """Fill the store with persons."""
    assert isinstance(kind, Product)
    fill_store(kind, setting, options.scaled(PERSONS, 10))


async def get(system: System, path: str) -> Values:
    """Request a list again and again."""
    requests = system.options.scaled(REQUESTS, 3)
    async with aiohttp.ClientSession(system.subject.web_url, raise_for_status=True) as http:
        smallest, _ = await _times_ms(http, SMALLEST, requests)
        before = processor_seconds(system.subject.pid)
        times, size = await _times_ms(http, path, requests)
        used = processor_seconds(system.subject.pid) - before
    return {
        "p50_ms": percentile(times, 0.5),
        "times_smallest": percentile(times, 0.5) / percentile(smallest, 0.5),
        "processor_ms": used / requests * 1000,
        "kb": size / 1000,
    }


async def _times_ms(http: aiohttp.ClientSession, path: str, requests: int) -> tuple[list[float], int]:
    times = []
    size = 0
    for _ in range(requests):
        began = perf_counter()
        async with http.get(path) as response:
            size = len(await response.read())
        times.append((perf_counter() - began) * 1000)
    return times, size


_METRICS = (
    Metric("p50_ms", "ms", "p50"),
    Metric("times_smallest", "times", "times GET /healthz"),
    Metric("processor_ms", "ms", "processor for each"),
    Metric("kb", "KB", "size"),
)

ROWS = tuple(
    Row(
        f"page-{name}", f"GET {path}", _METRICS, TERMINALS,
        block=partial(get, path=path), prepare=prepare, brokers=("stock",), only_product=True,
    )
    for name, path in LISTS.items()
)  # fmt: skip
