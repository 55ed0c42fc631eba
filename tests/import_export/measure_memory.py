"""Measures the memory that writing and reading a file of persons takes; a process of its own.

In a test's process, garbage and caches of other tests count, too.
"""

import base64
import gc
import sys
import tracemalloc
from pathlib import Path

from bridge.import_export.reading import open_person_file
from bridge.import_export.writing import write_person_file
from tests.import_export.file_system import MAXIMUM, person

JPEG = bytes(range(256)) * 400


def write(file: Path, photos: Path | None, count: int) -> None:
    if file.name == "photos-inside.csv":
        # An export never writes such a file, but spreadsheets and programs may.
        with file.open("w") as stream:
            stream.write("id,photo\n")
            for number in range(count):
                stream.write(f"{number},{base64.b64encode(JPEG).decode()}\n")
        return
    with write_person_file(file, photos) as writer:
        for number in range(count):
            writer.add(person(str(number)), JPEG)


def read(file: Path, photos: Path | None, count: int) -> None:
    with open_person_file(file, photos) as opened:
        for number, row in enumerate(opened.rows()):
            assert row.data["id"] == str(number)
            if row.picture is None:
                assert len(str(row.data["photo"])) > len(JPEG)
            else:
                assert row.picture.read(MAXIMUM) == JPEG
        assert number == count - 1


def main(name: str, folder: str, *counts: str) -> None:
    """Print the peak of traced bytes for each number of persons."""
    photos = Path(folder, "photos") if name == "p.csv" else None
    for count in map(int, ("1", *counts)):
        gc.collect()
        tracemalloc.start()
        write(Path(folder, name), photos, count)
        read(Path(folder, name), photos, count)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if count > 1:  # The first run imports modules that stay.
            print(peak)


if __name__ == "__main__":
    main(*sys.argv[1:])
