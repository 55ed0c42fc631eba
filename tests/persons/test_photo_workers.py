"""Pictures are converted in processes that are ended if one takes too long, crashes them, or the bridge dies."""

import asyncio
import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from bridge.model.commands import SetPersons
from bridge.model.faults import InvalidError, UnavailableError
from bridge.model.reply import Outcome
from bridge.persons.photos.conversion import convert_photo
from bridge.persons.photos.sources import AttachedPhoto, InlinePhoto
from bridge.persons.photos.worker_pool import PhotoWorkerPool, WorkerLimits
from bridge.persons.preparation import PhotoPreparer
from bridge.simulator.faces import sample_photo
from tests.persons.person_system import person, person_system
from tests.support.waiting import until

BOX = (1080, 1080)
GOOD = sample_photo(1)


def slow_picture() -> bytes:
    """Return a small file that takes a second of processor time."""
    buffer = BytesIO()
    Image.new("RGB", (8192, 6144), (200, 30, 40)).save(buffer, "JPEG", progressive=True)
    return buffer.getvalue()


SLOW = slow_picture()
SHORT = WorkerLimits(cpu_seconds=0.2)


def inline(data: bytes) -> InlinePhoto:
    return InlinePhoto(base64.b64encode(data).decode())


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
async def preparer() -> AsyncIterator[PhotoPreparer]:
    preparer = PhotoPreparer(limits=SHORT)
    yield preparer
    preparer.close()


async def test_a_picture_that_takes_too_long_is_a_fault_and_the_next_one_is_converted(preparer: PhotoPreparer) -> None:
    with pytest.raises(InvalidError, match="photo: takes too long to decode"):
        await preparer.prepare(inline(SLOW))
    assert (await preparer.prepare(inline(GOOD))).jpeg == GOOD


async def test_the_processor_time_of_all_pictures_together_is_not_limited() -> None:
    picture = BytesIO()
    Image.new("RGB", (2000, 1500), (200, 30, 40)).save(picture, "PNG")
    pool = PhotoWorkerPool(SHORT)
    for _ in range(20):
        assert pool.convert(picture.getvalue(), BOX)
    assert len(pool.process_ids) == 1
    pool.close()


async def test_a_slow_picture_does_not_hold_up_another_one() -> None:
    preparer = PhotoPreparer(limits=WorkerLimits(cpu_seconds=0.5))
    slow = asyncio.get_running_loop().create_task(preparer.prepare(inline(SLOW)))
    await until(lambda: preparer.process_ids)
    assert (await preparer.prepare(inline(GOOD))).jpeg == GOOD
    assert not slow.done()
    with pytest.raises(InvalidError, match="too long"):
        await slow
    preparer.close()


def test_the_conversion_gives_the_same_bytes_in_a_worker() -> None:
    picture = BytesIO()
    Image.effect_mandelbrot((1500, 1200), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(picture, "PNG")
    pool = PhotoWorkerPool()
    assert pool.convert(picture.getvalue(), BOX) == convert_photo(picture.getvalue(), BOX)
    pool.close()


def test_a_worker_that_was_killed_is_replaced() -> None:
    pool = PhotoWorkerPool()
    pool.convert(GOOD, BOX)
    (process_id,) = pool.process_ids
    os.kill(process_id, signal.SIGKILL)
    assert pool.convert(GOOD, BOX) == GOOD
    assert pool.process_ids != [process_id]
    pool.close()


def test_a_picture_that_ends_two_workers_is_a_fault() -> None:
    pool = PhotoWorkerPool(WorkerLimits(cpu_seconds=60))
    ended: set[int] = set()

    def end_workers() -> None:
        while len(ended) < 2:
            for process_id in pool.process_ids:
                if process_id not in ended:
                    os.kill(process_id, signal.SIGSEGV)
                    ended.add(process_id)
            time.sleep(0.005)

    killer = Thread(target=end_workers)
    killer.start()
    with pytest.raises(InvalidError, match="the decoder ended with SIGSEGV"):
        pool.convert(SLOW, BOX)
    killer.join()
    assert pool.convert(GOOD, BOX) == GOOD
    pool.close()


def test_a_worker_that_hangs_without_using_processor_time_is_replaced() -> None:
    pool = PhotoWorkerPool(WorkerLimits(answer_seconds=5))
    pool.convert(GOOD, BOX)
    (process_id,) = pool.process_ids
    os.kill(process_id, signal.SIGSTOP)
    assert pool.convert(GOOD, BOX) == GOOD
    assert not is_running(process_id)
    pool.close()


def test_a_picture_that_needs_too_much_memory_is_a_fault() -> None:
    pool = PhotoWorkerPool(WorkerLimits(data_bytes=150 * 1024 * 1024))
    with pytest.raises(InvalidError, match="too much memory"):
        pool.convert(SLOW, BOX)
    assert pool.convert(GOOD, BOX) == GOOD
    pool.close()


async def test_without_work_the_processes_end() -> None:
    preparer = PhotoPreparer(idle_seconds=0.05)
    await preparer.prepare(inline(GOOD))
    await until(lambda: not preparer.process_ids)
    assert (await preparer.prepare(inline(GOOD))).jpeg == GOOD
    preparer.close()
    assert preparer.process_ids == []


async def test_closing_ends_a_conversion_and_its_process(preparer: PhotoPreparer) -> None:
    preparer = PhotoPreparer(limits=WorkerLimits(cpu_seconds=600))
    bomb = asyncio.get_running_loop().create_task(preparer.prepare(inline(SLOW)))
    await until(lambda: preparer.process_ids)
    (process_id,) = preparer.process_ids
    preparer.close()
    with pytest.raises(RuntimeError, match="closed"):
        await bomb
    assert not is_running(process_id)


BRIDGE = """
import sys
from threading import Thread
from bridge.persons.photos.worker_pool import PhotoWorkerPool
from tests.persons.test_photo_workers import BOX, GOOD, SLOW
pool = PhotoWorkerPool()
def convert():
    while True:
        pool.convert(SLOW, BOX)
for _ in range(2):
    Thread(target=convert, daemon=True).start()
while len(pool.process_ids) < 2:
    pass
print(*pool.process_ids, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_process_is_left_when_the_bridge_dies(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", BRIDGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bridge:
        assert bridge.stdout is not None
        process_ids = [int(word) for word in bridge.stdout.readline().split()]
        assert all(map(is_running, process_ids))
        bridge.send_signal(number)
        await until(lambda: not any(map(is_running, process_ids)))


def test_a_worker_gets_no_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEBRIDGE_MQTT__PASSWORD", "secret")
    pool = PhotoWorkerPool()
    pool.convert(GOOD, BOX)
    (process_id,) = pool.process_ids
    assert b"secret" not in Path(f"/proc/{process_id}/environ").read_bytes()
    pool.close()


# -- changes


async def test_a_slow_photo_holds_up_only_its_terminal(tmp_path: Path) -> None:
    async with person_system(tmp_path, photos=PhotoPreparer(limits=WorkerLimits(cpu_seconds=0.5))) as system:
        loop = asyncio.get_running_loop()
        slow = loop.create_task(system.set(person("p1", photo=base64.b64encode(SLOW).decode())))
        await asyncio.sleep(0)
        same_terminal = loop.create_task(system.remove("p1"))
        await asyncio.sleep(0)
        assert await system.set(person("p1"), sn="T2") == [Outcome.ACCEPTED]
        assert not slow.done()
        assert not same_terminal.done()
        assert await slow == [Outcome.INVALID]
        assert await same_terminal == [Outcome.ACCEPTED]


async def test_a_change_is_unavailable_if_no_process_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with person_system(tmp_path) as system:
        with monkeypatch.context() as context:
            context.setattr(sys, "executable", "/no/such/python")
            (replies,) = await system.change(SetPersons(persons=[person("p1")], request_id=None))
            assert [(reply.outcome, reply.person_id) for reply in replies] == [(Outcome.UNAVAILABLE, "p1")]
            context.setattr(sys, "executable", "/bin/false")
            assert await system.set(person("p1")) == [Outcome.UNAVAILABLE]
            with pytest.raises(UnavailableError, match="ended at its start"):
                await system.photos.prepare(AttachedPhoto("p1.jpg", lambda _: GOOD))
        assert await system.set(person("p1")) == [Outcome.ACCEPTED]


async def test_a_worker_whose_bridge_was_killed_while_it_started_ends_silently() -> None:
    ours, its_end = socket.socketpair()
    ours.close()
    read_end, write_end = os.pipe()
    with its_end:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c",
            f"from bridge.persons.photos.worker import main; main({its_end.fileno()}, 5.0, 1 << 30)",
            stdin=read_end, stderr=asyncio.subprocess.PIPE, pass_fds=[its_end.fileno()],
        )  # fmt: skip
    os.close(read_end)
    _, stderr = await process.communicate()
    os.close(write_end)
    assert (process.returncode, stderr) == (0, b"")
