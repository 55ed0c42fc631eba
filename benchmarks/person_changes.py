"""Persons with photos of 100 KB over MQTT: how many a second to one terminal and to many, and what an open suffers.

Run as `python -m benchmarks.person_changes`; `--help` has the options. It starts a Mosquitto, the bridge as a process
of its own with its SQLite file on a real disk, and terminals as another (`quick_terminals`).

1. Upserts, published with QoS 1 as quickly as the broker takes them: from the first publish to the last `accepted`, by
   when all are committed on the disk, and to the last terminal's `ok`. The measure beside it is a bare program that
   inserts the same photos into an SQLite file in the same folder, as durably, with a commit for each. The bridge may be
   quicker, as it commits in groups.
2. Opens at random moments, a hundred a second, with and without twenty persons a second on their way to the same
   terminal. The two alternate, so that whatever else the machine does falls on both. The measure beside it is the same
   client's echo through the same broker.

Every person has a photo of their own, a picture with noise that conforms already: the bridge decodes it to check it,
and passes it on byte for byte.
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

from benchmarks.measuring import PATIENCE, Rounds, mqtt_client, run, shown
from benchmarks.quick_terminals import quick_terminals
from bridge.mqtt.client.connection import Message, MqttConnection
from bridge.simulator.faces import sample_photo
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto

_FACES = 50
_WIDTH, _HEIGHT = 480, 640
_MARGIN = 64
"""Pixels of noise around a picture's, so that each can take another piece of it."""

_PERSONS_A_SECOND = 20
_OPENS_A_SECOND = 100

_IN_MEMORY = ("tmpfs", "ramfs")

_ECHO = "benchmark/echo"


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured; see `--help`."""

    to_one: int
    to_all: int
    terminals: int
    halves: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What runs meanwhile."""

    broker: Mosquitto
    bridge: BridgeProcess
    sns: Sequence[str]
    terminals_pid: int


def photos(count: int) -> Iterator[bytes]:
    """Draw baseline JPEGs of about 100 KB, no two alike."""
    dice = Random(1)
    size = (_WIDTH + _MARGIN, _HEIGHT + _MARGIN)
    noise = Image.frombytes("RGB", size, dice.randbytes(size[0] * size[1] * 3))
    faces = [Image.open(BytesIO(sample_photo(seed, (_WIDTH, _HEIGHT)))) for seed in range(min(_FACES, count))]
    for number in range(count):
        top, left = divmod(number, _MARGIN)
        piece = noise.crop((left, top % _MARGIN, left + _WIDTH, top % _MARGIN + _HEIGHT))
        buffer = BytesIO()
        Image.blend(faces[number % len(faces)], piece, 0.2).save(buffer, format="JPEG", quality=85)
        yield buffer.getvalue()


def person(number: int, photo: bytes, request_id: str) -> bytes:
    """Write a `person/set` command."""
    text = b64encode(photo).decode()
    return orjson.dumps(
        {"persons": [{"id": str(number), "name": f"Person {number}", "photo": text}], "request_id": request_id}
    )


class Upserts:
    """Counts the replies to changes, and notes when the last of each kind came."""

    def __init__(self) -> None:
        self._left: Counter[str] = Counter()
        self._ended: dict[str, asyncio.Future[float]] = {}

    def received(self, message: Message) -> None:
        """Take what the client is sent."""
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
        """Publish all; return the seconds to the last `accepted` and to the last `ok`, of `replies` each."""
        loop = asyncio.get_running_loop()
        self._left = Counter({"accepted": replies, "ok": replies})
        self._ended = {outcome: loop.create_future() for outcome in self._left}
        ends = asyncio.gather(*self._ended.values())
        began = perf_counter()
        for payload in payloads:
            client.publish_nowait(topic, payload, qos=1)
        async with asyncio.timeout(PATIENCE):
            accepted, confirmed = await ends
        return accepted - began, confirmed - began


def bare_commits(folder: Path, pictures: Sequence[bytes]) -> float:
    """Insert photos as the bridge's store does, with a commit for each; return the seconds."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
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


async def measure_upserts(options: Options, around: Surroundings, folder: Path, pictures: Iterator[bytes]) -> None:
    """Print how many persons a second are stored, and how many reach their terminals."""
    upserts = Upserts()
    async with mqtt_client(around.broker.port, "upserts", ["facebridge/terminal/+/reply"], upserts.received) as client:
        first = around.sns[0]
        for name, topic, persons, terminals in (
            ("to 1 terminal", f"facebridge/terminal/{first}/person/set", options.to_one, 1),
            (f"to {len(around.sns)} terminals", "facebridge/group/all/person/set", options.to_all, len(around.sns)),
        ):
            own = list(islice(pictures, persons))
            bare = bare_commits(folder, own)
            (folder / "bare.db").unlink()
            payloads = [person(number, photo, f"{name} {number}") for number, photo in enumerate(own)]
            busy = Busy(around)
            accepted, confirmed = await upserts.go(client, topic, payloads, persons * terminals)
            a_frame = busy.seconds("bridge") / (persons * terminals)
            print(
                f"{name:<18} accepted {persons / accepted:7.1f} persons/s   ok {persons / confirmed:7.1f} persons/s,"
                f" {persons * terminals / confirmed:7.1f} frames/s   n {persons}\n"
                f"{'':<18} bare commits {persons / bare:.1f}/s: accepted is {bare / accepted:.3f} of that\n"
                f"{'':<18} {busy.of_cores()}; bridge {a_frame * 1000:.2f} ms a frame"
            )


class Busy:
    """What the processors have done for each process since; who is at 1.0 of a core is what was measured."""

    def __init__(self, around: Surroundings) -> None:
        self._pids = {"bridge": around.bridge.pid, "terminals": around.terminals_pid, "client": os.getpid()}
        self._began = perf_counter()
        self._before = {name: _processor_seconds(pid) for name, pid in self._pids.items()}

    def seconds(self, name: str) -> float:
        """Return the processor's seconds that a process has taken."""
        return _processor_seconds(self._pids[name]) - self._before[name]

    def of_cores(self) -> str:
        """Say which share of a core each has taken."""
        elapsed = perf_counter() - self._began
        return "cores busy: " + ", ".join(f"{name} {self.seconds(name) / elapsed:.2f}" for name in self._pids)


def _processor_seconds(pid: int) -> float:
    # proc(5): the name is in parentheses and may hold anything; utime and stime are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Opens:
    """Presses at random moments, beside persons or not, and notes how long each took."""

    def __init__(self, around: Surroundings, presser: MqttConnection, enroller: MqttConnection, rounds: Rounds) -> None:
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self._terminal = f"facebridge/terminal/{around.sns[0]}"
        self._presser = presser
        self._enroller = enroller
        self._rounds = rounds
        self._dice = Random(1)
        self._numbers = count()

    async def half(self, name: str, seconds: float, persons: Sequence[tuple[str, bytes]]) -> None:
        """Press for some seconds, with these persons spread over them; return once everything is answered."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._press(group, name, seconds))
            for number, (request_id, payload) in enumerate(persons):
                group.create_task(self._enrol(name, number * seconds / len(persons), request_id, payload))

    async def _press(self, group: asyncio.TaskGroup, name: str, seconds: float) -> None:
        end = perf_counter() + seconds
        while perf_counter() < end:
            # Each for itself: one that takes long must not put off the next, which would have taken long too.
            group.create_task(self._timed(f"open {name}", self._presser, f"{self._terminal}/open/set"))
            await self._gap()
            group.create_task(self._timed(f"echo {name}", self._presser, _ECHO))
            await self._gap()

    async def _enrol(self, name: str, after: float, request_id: str, payload: bytes) -> None:
        await asyncio.sleep(after)
        await self._timed(f"person {name}", self._enroller, f"{self._terminal}/person/set", request_id, payload)

    async def _gap(self) -> None:
        await asyncio.sleep(self._dice.uniform(0, 1 / _OPENS_A_SECOND))

    async def _timed(
        self, name: str, client: MqttConnection, topic: str, request_id: str | None = None, payload: bytes | None = None
    ) -> None:
        began = perf_counter()
        await self._rounds.go(client, topic, request_id or f"{name} {next(self._numbers)}", payload)
        self.times[name].append((perf_counter() - began) * 1000)


async def measure_opens(options: Options, around: Surroundings, pictures: Iterator[bytes]) -> None:
    """Print what an open takes with persons on their way to the same terminal, and without."""
    rounds = Rounds()
    topics = [f"facebridge/terminal/{around.sns[0]}/reply", _ECHO]
    a_half = range(round(options.seconds * _PERSONS_A_SECOND))
    async with (
        mqtt_client(around.broker.port, "presser", topics, rounds.received) as presser,
        mqtt_client(around.broker.port, "enroller") as enroller,
    ):
        opens = Opens(around, presser, enroller, rounds)
        await opens.half("first", 1, [])
        for half in range(options.halves):
            ids = [f"person {half} {number}" for number in a_half]
            persons = [(id_, person(number, next(pictures), id_)) for number, id_ in enumerate(ids)]
            await opens.half("without", options.seconds, [])
            await opens.half("with persons", options.seconds, persons)
    without = shown("open, without persons", opens.times["open without"])
    beside = shown(f"open, {_PERSONS_A_SECOND} persons/s beside", opens.times["open with persons"])
    shown("echo, without persons", opens.times["echo without"])
    shown(f"echo, {_PERSONS_A_SECOND} persons/s beside", opens.times["echo with persons"])
    shown("person, to ok", opens.times["person with persons"])
    print(f"an open beside persons takes {beside / without:.2f} times one without")


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, and its device."""
    told = subprocess.run(["df", "--output=fstype,source", folder], check=True, capture_output=True, text=True)
    return " on ".join(told.stdout.splitlines()[1].split())


async def measure(options: Options, folder: Path) -> None:
    """Start everything, measure and print."""
    sns = [f"T{number}" for number in range(1, options.terminals + 1)]
    settings = configuration(
        0, store={"url": f"sqlite:///{folder / 'facebridge.db'}"}, terminals={"known": {sn: {} for sn in sns}}
    )
    # Mosquitto would drop what is more than a thousand messages ahead of whoever listens.
    async with Mosquitto(folder, ["max_queued_messages 0"]) as broker:
        settings["mqtt"]["port"] = broker.port
        async with (
            BridgeProcess(folder, settings).running() as bridge,
            quick_terminals(bridge.terminals_port, sns) as terminals_pid,
        ):
            around = Surroundings(broker, bridge, sns, terminals_pid)
            halves = options.halves * round(options.seconds * _PERSONS_A_SECOND)
            pictures = photos(options.to_one + options.to_all + halves)
            await measure_upserts(options, around, folder, pictures)
            await measure_opens(options, around, pictures)


@click.command()
@click.option("--to-one", type=click.IntRange(1), default=400, show_default=True, help="Persons to one terminal.")
@click.option("--to-all", type=click.IntRange(1), default=40, show_default=True, help="Persons to all terminals.")
@click.option("--terminals", type=click.IntRange(1), default=100, show_default=True, help="Terminals there are.")
@click.option(
    "--halves",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Times that opens are measured with persons, and without.",
)
@click.option("--seconds", type=click.FloatRange(0.1), default=2.5, show_default=True, help="How long each time.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=tempfile.gettempdir,
    help="Where the store is put, in a folder of its own that is removed; on a real disk. [default: temporary files']",
)
@click.option("--memory", is_flag=True, help="Take a folder that is in memory, where commits cost nothing.")
def main(
    to_one: int, to_all: int, terminals: int, halves: int, seconds: float, folder: Path, memory: bool
) -> None:  # fmt: skip
    """Measure upserts of persons with photos, and what they cost an open."""
    kind = file_system(Path(folder))
    if kind.split()[0] in _IN_MEMORY and not memory:
        raise click.UsageError(f"{folder} is in memory ({kind}), and commits to a disk are measured: give --folder")
    print(f"the store is on {kind}; load of the machine before: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    options = Options(to_one, to_all, terminals, halves, seconds)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        run(measure(options, Path(own)))


if __name__ == "__main__":
    main()
