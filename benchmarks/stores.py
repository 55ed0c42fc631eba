"""Stores with many persons."""

import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

from benchmarks.photos import photos
from benchmarks.subjects.setting import Setting
from benchmarks.subjects.starting import Product


def write_import(file: Path, persons: int) -> None:
    """Write a ZIP for `facebridge persons import`: a CSV, and for each person a photo of 97 KB."""
    with zipfile.ZipFile(file, "w") as archive:
        rows = ["id,name,card"]
        for number, photo in zip(range(persons), photos(), strict=False):
            archive.writestr(f"photos/{number}.jpg", photo)
            rows.append(f"{number},Person {number},{number:08}")
        archive.writestr("persons.csv", "\n".join(rows))


def fill_store(product: Product, setting: Setting, persons: int) -> None:
    """Make a store with persons of the terminal `T1` that all have the same photo, each confirmed by the terminal.

    The command line imports one person, so that the store has the schema of this product. The others are copies of its
    row, because an import of 100,000 persons would take minutes.
    """
    file = setting.folder / "one.zip"
    write_import(file, 1)
    product.command_line(setting, "persons", "import", str(file), "--terminal", "T1")
    with closing(sqlite3.connect(setting.folder / "facebridge.db")) as connection, connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM person_entry").fetchone())
        desired, first = json.loads(row["desired"]), row["revision"]
        row |= {"delivery": "confirmed", "confirmed_revision": first}
        names = ", ".join(f'"{name}"' for name in row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute("UPDATE person_entry SET delivery = 'confirmed', confirmed_revision = revision")
        connection.executemany(
            f"INSERT INTO person_entry ({names}) VALUES ({values})",
            (
                row
                | {
                    "person_id": f"{number:06}",
                    "revision": first + number,
                    "confirmed_revision": first + number,
                    "desired": json.dumps(desired | {"id": f"{number:06}", "name": f"Person {number}"}),
                }
                for number in range(1, persons)
            ),
        )
        connection.execute("UPDATE counter SET value = value + ?", (persons,))
