"""Rows of person changes: new persons with photos of 97 KB, from the publish to the terminal's answer."""

from functools import partial
from time import perf_counter

from benchmarks.harness import CORES, FAILED, PER_SECOND, PROCESSOR, Row, System, Usage, Values
from benchmarks.loads import loads, persons

SECONDS = 4.0
CHANGES = 2000
"""A block ends after this number, too, so that the store of a fast bridge does not grow without limit."""


async def changes(system: System, in_flight: int) -> Values:
    """Add persons, with some changes in flight."""
    (load,), usage = loads(system, persons), Usage(system)
    began = perf_counter()
    number = system.options.scaled(CHANGES, in_flight)
    await load.closed_loop(number, in_flight, SECONDS * system.options.scale)
    done = len(load.times_ms)
    return {"per_second": done / (perf_counter() - began), "failed": load.failed, **usage.values(done)}


ROWS = tuple(
    Row(
        f"persons-{in_flight}",
        f"person changes, {in_flight} in flight",
        (PER_SECOND, PROCESSOR, FAILED, *CORES),
        terminals,
        block=partial(changes, in_flight=in_flight),
        targets={"per_second": target},
    )
    for in_flight, terminals, target in ((1, 1, "0.3 × floor"), (8, 1, "0.4 × floor"), (100, 100, "0.4 × floor"))
)
