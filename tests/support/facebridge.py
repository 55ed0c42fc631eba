"""`facebridge` as people type it, and the files they give it."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bridge.simulator.faces import sample_photo


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    said: str
    complained: str


async def facebridge(folder: Path, *words: str, given: str = "") -> Done:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", *words, cwd=folder,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    async with asyncio.timeout(45):
        said, complained = await process.communicate(given.encode())
    assert process.returncode is not None
    return Done(process.returncode, said.decode(), complained.decode())


def write(folder: Path, text: str, name: str = "persons.csv") -> str:
    (folder / name).write_text(text)
    return name


def pictures(folder: Path, *person_ids: str) -> str:
    (folder / "faces").mkdir(exist_ok=True)
    for number, person_id in enumerate(person_ids):
        (folder / "faces" / f"{person_id}.jpg").write_bytes(sample_photo(number, (64, 80)))
    return "faces"
