"""Measures persons with photos of 100 KB over MQTT: throughput to one terminal and to many, and the effect on opens.

Run `python -m benchmarks.person_changes`; `--help` lists the options. It starts Mosquitto, the bridge as a process of
its own with its SQLite file on a real disk, and terminals as another process (`quick_terminals`).

1. Upserts, published with QoS 1 as quickly as the broker accepts them. It measures the time from the first publish to
   the last `accepted`, when all are committed to the disk, and to the last terminal's `ok`. It compares with a program
   that only inserts the same photos into an SQLite file in the same folder, with a commit for each. The bridge can be
   quicker, because it commits in groups.
2. Opens at random times, a hundred a second, with and without twenty persons a second for the same terminal. Phases
   with and without persons alternate, so that other load of the machine affects both. It compares with an echo of the
   same client through the same broker.

Every person has a different photo, a picture with noise in an accepted format: the bridge decodes it to check it, and
passes it on byte for byte.
"""

import asyncio
import os
import sqlite3
import subprocess
import tempfile
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from random import Random
from time import perf_counter

import click
import orjson
from PIL import Image

from benchmarks.measuring import TIMEOUT_SECONDS, Rounds, mqtt_client, run, shown
from benchmarks.quick_terminals import quick_terminals
from bridge.mqtt.client.connection import Message, MqttConnection, Publication
from bridge.simulator.faces import sample_photo
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto

_FACES = 50
_WIDTH, _HEIGHT = 480, 640
_MARGIN_PIXELS = 64
"""The noise is larger than a picture by this margin, so that each picture gets a different part of it."""

_PERSONS_A_SECOND = 20
_OPENS_A_SECOND = 100

_IN_MEMORY = ("tmpfs", "ramfs")

_ECHO = "benchmark/echo"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command; see `--help`."""

    to_one: int
    to_all: int
    terminals: int
    phases: int
    seconds: float


@dataclass(frozen=True, slots=True)
class System:
    """The running broker, bridge and terminals."""

    broker: Mosquitto
    bridge: BridgeProcess
    sns: Sequence[str]
    terminals_pid: int


def photos(count: int) -> Iterator[bytes]:
    """Draw baseline JPEGs of about 100 KB, all different."""
    random = Random(1)
    size = (_WIDTH + _MARGIN_PIXELS, _HEIGHT + _MARGIN_PIXELS)
    noise = Image.frombytes("RGB", size, random.randbytes(size[0] * size[1] * 3))
    faces = [Image.open(BytesIO(sample_photo(seed, (_WIDTH, _HEIGHT)))) for seed in range(min(_FACES, count))]
    for number in range(count):
        top, left = divmod(number, _MARGIN_PIXELS)
        piece = noise.crop((left, top % _MARGIN_PIXELS, left + _WIDTH, top % _MARGIN_PIXELS + _HEIGHT))
        buffer = BytesIO()
        Image.blend(faces[number % len(faces)], piece, 0.2).save(buffer, format="JPEG", quality=85)
        yield buffer.getvalue()


def person(number: int, photo: bytes, request_id: str) -> bytes:
    """Return the payload of a `person/set` command."""
    text = b64encode(photo).decode()
    return orjson.dumps(
        {"persons": [{"id": str(number), "name": f"Person {number}", "photo": text}], "request_id": request_id}
    )


class Upserts:
    """Counts the replies to changes, and records the time of the last one of each outcome."""

    def __init__(self) -> None:
        self._left: Counter[str] = Counter()
        self._ended: dict[str, asyncio.Future[float]] = {}

    def received(self, message: Message) -> None:
        """Handle a message for the client."""
        outcome = orjson.loads(message.payload)["outcome"]
        self._left[outcome] -= 1
        if outcome not in self._ended:
            for ended in self._ended.values():
                ended.set_exception(RuntimeError(f"neither accepted nor ok: {message.payload[:300]!r}"))
            self._ended.clear()
        elif not self._left[outcome]:
            self._ended[outcome].set_result(perf_counter())

    async def go(
        self, client: MqttConnection, topic: str, payloads: Sequence[bytes], replies: int
    ) -> tuple[float, float]:
        """Publish all payloads; return the seconds to the last `accepted` and to the last `ok`, of `replies` each."""
        loop = asyncio.get_running_loop()
        self._left = Counter({"accepted": replies, "ok": replies})
        self._ended = {outcome: loop.create_future() for outcome in self._left}
        ends = asyncio.gather(*self._ended.values())
        began = perf_counter()
        for payload in payloads:
            client.publish_nowait(Publication(topic, payload))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            accepted, confirmed = await ends
        return accepted - began, confirmed - began


def plain_commits(folder: Path, pictures: Sequence[bytes]) -> float:
    """Insert photos with the SQLite settings of the bridge, with a commit for each; return the seconds."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE photo (id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL)")
        began = perf_counter()
        for picture in pictures:
            connection.execute("INSERT INTO photo (jpeg) VALUES (?)", (picture,))
        return perf_counter() - began
    finally:
        connection.close()


async def measure_upserts(options: Options, system: System, folder: Path, pictures: Iterator[bytes]) -> None:
    """Print how many persons a second are stored, and how many are confirmed by the terminals."""
    upserts = Upserts()
    async with mqtt_client(system.broker.port, "upserts", ["facebridge/terminal/+/reply"], upserts.received) as client:
        first = system.sns[0]
        for name, topic, persons, terminals in (
            ("to 1 terminal", f"facebridge/terminal/{first}/person/set", options.to_one, 1),
            (f"to {len(system.sns)} terminals", "facebridge/group/all/person/set", options.to_all, len(system.sns)),
        ):
            own = list(islice(pictures, persons))
            plain_seconds = plain_commits(folder, own)
            (folder / "plain.db").unlink()
            payloads = [person(number, photo, f"{name} {number}") for number, photo in enumerate(own)]
            busy = Busy(system)
            accepted, confirmed = await upserts.go(client, topic, payloads, persons * terminals)
            a_frame = busy.seconds("bridge") / (persons * terminals)
            print(
                f"{name:<18} accepted {persons / accepted:7.1f} persons/s   ok {persons / confirmed:7.1f} persons/s,"
                f" {persons * terminals / confirmed:7.1f} frames/s   n {persons}\n"
                f"{'':<18} plain commits {persons / plain_seconds:.1f}/s:"
                f" accepted is {plain_seconds / accepted:.3f} of that\n"
                f"{'':<18} {busy.of_cores()}; bridge {a_frame * 1000:.2f} ms a frame"
            )


class Busy:
    """Processor time of each process since the creation. A process at 1.0 of a core limits the throughput."""

    def __init__(self, system: System) -> None:
        self._pids = {"bridge": system.bridge.pid, "terminals": system.terminals_pid, "client": os.getpid()}
        self._began = perf_counter()
        self._before = {name: _processor_seconds(pid) for name, pid in self._pids.items()}

    def seconds(self, name: str) -> float:
        """Return the processor seconds that a process has used."""
        return _processor_seconds(self._pids[name]) - self._before[name]

    def of_cores(self) -> str:
        """Return the share of a core that each process has used, as text."""
        elapsed = perf_counter() - self._began
        return "cores busy: " + ", ".join(f"{name} {self.seconds(name) / elapsed:.2f}" for name in self._pids)


def _processor_seconds(pid: int) -> float:
    # proc(5): the name is in parentheses and can contain any character; utime and stime are the fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Opens:
    """Presses at random times, with or without persons, and records the duration of each."""

    def __init__(self, system: System, presser: MqttConnection, enroller: MqttConnection, rounds: Rounds) -> None:
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self._terminal = f"facebridge/terminal/{system.sns[0]}"
        self._presser = presser
        self._enroller = enroller
        self._rounds = rounds
        self._random = Random(1)
        self._numbers = count()

    async def phase(self, name: str, seconds: float, persons: Sequence[tuple[str, bytes]]) -> None:
        """Press for some seconds and publish persons, evenly spread; return when all responses have come."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._press(group, name, seconds))
            for number, (request_id, payload) in enumerate(persons):
                group.create_task(self._enrol(name, number * seconds / len(persons), request_id, payload))

    async def _press(self, group: asyncio.TaskGroup, name: str, seconds: float) -> None:
        end = perf_counter() + seconds
        while perf_counter() < end:
            # Each press is a task: a slow one must not delay the next, because that one would be slow too.
            group.create_task(self._timed(f"open {name}", self._presser, f"{self._terminal}/open/set"))
            await self._gap()
            group.create_task(self._timed(f"echo {name}", self._presser, _ECHO))
            await self._gap()

    async def _enrol(self, name: str, after: float, request_id: str, payload: bytes) -> None:
        await asyncio.sleep(after)
        await self._timed(f"person {name}", self._enroller, f"{self._terminal}/person/set", request_id, payload)

    async def _gap(self) -> None:
        await asyncio.sleep(self._random.uniform(0, 1 / _OPENS_A_SECOND))

    async def _timed(
        self, name: str, client: MqttConnection, topic: str, request_id: str | None = None, payload: bytes | None = None
    ) -> None:
        began = perf_counter()
        await self._rounds.go(client, topic, request_id or f"{name} {next(self._numbers)}", payload)
        self.times[name].append((perf_counter() - began) * 1000)


async def measure_opens(options: Options, system: System, pictures: Iterator[bytes]) -> None:
    """Print the duration of an open with and without persons for the same terminal."""
    rounds = Rounds()
    topics = [f"facebridge/terminal/{system.sns[0]}/reply", _ECHO]
    persons_per_phase = range(round(options.seconds * _PERSONS_A_SECOND))
    async with (
        mqtt_client(system.broker.port, "presser", topics, rounds.received) as presser,
        mqtt_client(system.broker.port, "enroller") as enroller,
    ):
        opens = Opens(system, presser, enroller, rounds)
        await opens.phase("first", 1, [])
        for phase in range(options.phases):
            ids = [f"person {phase} {number}" for number in persons_per_phase]
            persons = [(id_, person(number, next(pictures), id_)) for number, id_ in enumerate(ids)]
            await opens.phase("without", options.seconds, [])
            await opens.phase("with persons", options.seconds, persons)
    without = shown("open, without persons", opens.times["open without"])
    with_persons = shown(f"open, with {_PERSONS_A_SECOND} persons/s", opens.times["open with persons"])
    shown("echo, without persons", opens.times["echo without"])
    shown(f"echo, with {_PERSONS_A_SECOND} persons/s", opens.times["echo with persons"])
    shown("person, to ok", opens.times["person with persons"])
    print(f"an open with persons takes {with_persons / without:.2f} times as long as without")


def file_system(folder: Path) -> str:
    """Return the type of the file system of a folder, and its device."""
    result = subprocess.run(["df", "--output=fstype,source", folder], check=True, capture_output=True, text=True)
    return " on ".join(result.stdout.splitlines()[1].split())


async def measure(options: Options, folder: Path) -> None:
    """Start the system, measure, and print the results."""
    sns = [f"T{number}" for number in range(1, options.terminals + 1)]
    settings = configuration(
        0, store={"url": f"sqlite:///{folder / 'facebridge.db'}"}, terminals={"known": {sn: {} for sn in sns}}
    )
    # By default, Mosquitto drops messages when more than a thousand wait for a subscriber.
    async with Mosquitto(folder, ["max_queued_messages 0"]) as broker:
        settings["mqtt"]["port"] = broker.port
        async with (
            BridgeProcess(folder, settings).running() as bridge,
            quick_terminals(bridge.terminals_port, sns) as terminals_pid,
        ):
            system = System(broker, bridge, sns, terminals_pid)
            persons_in_phases = options.phases * round(options.seconds * _PERSONS_A_SECOND)
            pictures = photos(options.to_one + options.to_all + persons_in_phases)
            await measure_upserts(options, system, folder, pictures)
            await measure_opens(options, system, pictures)


@click.command()
@click.option("--to-one", type=click.IntRange(1), default=400, show_default=True, help="Persons to one terminal.")
@click.option("--to-all", type=click.IntRange(1), default=40, show_default=True, help="Persons to all terminals.")
@click.option("--terminals", type=click.IntRange(1), default=100, show_default=True, help="Number of terminals.")
@click.option(
    "--phases",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Number of phases with persons, and of those without.",
)
@click.option("--seconds", type=click.FloatRange(0.1), default=2.5, show_default=True, help="Duration of each phase.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=tempfile.gettempdir,
    help="A folder on a real disk; the store is in a temporary folder in it. [default: the folder of temporary files]",
)
@click.option("--memory", is_flag=True, help="Allow a folder in memory, where commits cost nothing.")
def main(
    to_one: int, to_all: int, terminals: int, phases: int, seconds: float, folder: Path, memory: bool
) -> None:  # fmt: skip
    """Measure upserts of persons with photos, and their effect on opens."""
    kind = file_system(Path(folder))
    if kind.split()[0] in _IN_MEMORY and not memory:
        raise click.UsageError(
            f"{folder} is in memory ({kind}), but commits to a disk are measured: give --folder or --memory"
        )
    print(
        f"the store is on {kind}; load of the machine at the start: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    )
    options = Options(to_one, to_all, terminals, phases, seconds)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        run(measure(options, Path(own)))


if __name__ == "__main__":
    main()
