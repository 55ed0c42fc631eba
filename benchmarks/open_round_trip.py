"""Measures an open over MQTT: publish, broker, bridge, terminal, bridge, broker, reply.

Run `python -m benchmarks.open_round_trip [PRESSES]`. It starts Mosquitto with its default settings, the bridge as a
process of its own, and a simulated terminal. It presses one after the other, and compares with an echo of the same
client through the same broker in the same run: no bridge can be quicker than two echoes. A result of 44 ms or more
means that TCP_NODELAY or TCP_QUICKACK does not work.
"""

import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from benchmarks.measuring import Rounds, mqtt_client, run, shown
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto

PRESSES = 1000

ECHO = "benchmark/echo"


async def times_of(one: Callable[[int], Awaitable[None]], count: int) -> list[float]:
    """Return the duration of each of `count` rounds in milliseconds."""
    times = []
    for number in range(count):
        began = perf_counter()
        await one(number)
        times.append((perf_counter() - began) * 1000)
    return times


async def main(presses: int) -> None:
    """Measure, and print the results."""
    rounds = Rounds()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Mosquitto(Path(folder)) as broker,
            BridgeProcess(Path(folder), configuration(broker.port)).running() as bridge,
            SimulatedTerminal(bridge.terminal_url, "T1").running() as terminal,
            mqtt_client(broker.port, "benchmark", ["facebridge/terminal/T1/reply", ECHO], rounds.received) as client,
        ):
            await terminal.wait_connected()
            press = "facebridge/terminal/T1/open/set"
            await times_of(lambda number: rounds.go(client, press, f"first {number}"), 100)
            echoes = await times_of(lambda number: rounds.go(client, ECHO, f"echo {number}"), presses)
            opens = await times_of(lambda number: rounds.go(client, press, f"press {number}"), presses)
            echo, opened = shown("echo through the broker", echoes), shown("open, to the reply", opens)
            print(f"an open is {opened / echo:.1f} echoes")


if __name__ == "__main__":
    run(main(int(sys.argv[1]) if len(sys.argv) > 1 else PRESSES))
