"""A persons' service, and beside it another program on the same store, with files to import from."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection as StoreConnection

from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonCommand
from bridge.import_export.checking import CheckedFile, RowFault, check_file
from bridge.import_export.context import TransferContext, TransferTarget
from bridge.import_export.differences import Differences, find_differences
from bridge.import_export.exporting import Exported, export_persons
from bridge.import_export.importing import apply_import
from bridge.import_export.photo_spool import PhotoSpool
from bridge.import_export.reading import open_person_file
from bridge.import_export.writing import write_person_file
from bridge.model.commands import PersonChange
from bridge.model.events import CommandReplied, GroupPersonChanged
from bridge.model.origin import Origin
from bridge.persons.changes import CopySource
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.simulator.faces import sample_photo
from bridge.store.database import Database
from bridge.store.group_queries import kept_page
from bridge.store.photos import PLAIN
from tests.persons.person_system import PersonSystem, person_system

_P = ParamSpec("_P")
_T = TypeVar("_T")

ORIGIN = Origin(source="facebridge persons import", user="ann")

FIRST_TERMINAL = CopySource(sn="T1")


def ignore(what: str, done: int, part: float) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class Imported:
    """The results of an import."""

    checked: CheckedFile
    differences: Differences
    late: Sequence[RowFault]


class TransferSystem:
    """The service, and the other program."""

    def __init__(self, system: PersonSystem, database: Database, folder: Path, *, bridge_running: bool) -> None:
        self.person_system = system
        self.folder = folder
        self.database = database
        self.replies: list[CommandReplied] = []
        events = EventBus()
        events.subscribe(CommandReplied, self.replies.append, name="test")
        self.group_changes: list[GroupPersonChanged] = []
        events.subscribe(GroupPersonChanged, self.group_changes.append, name="test")
        self.context = TransferContext(
            transactions=TransactionRunner(
                PersonContext(database=database, cipher=PLAIN, events=events, clock=system.clock, boot_id="this boot"),
                is_external=True,
            ),
            timezone=UTC,
            origin=ORIGIN,
            bridge_running=bridge_running,
        )

    async def read(
        self, query: Callable[Concatenate[StoreConnection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Return the result of a query."""
        return await self.database.read(query, *args, **kwargs)

    async def change_group(self, group: str, change: PersonChange) -> None:
        """Change the persons of a group and of its members, as a command over MQTT does."""
        sns = tuple(known.terminal.sn for known in self.person_system.registry.members(group))
        command = PersonCommand(group=group, sns=sns, change=change, origin=ORIGIN)
        await self.person_system.person_service.change([command])

    async def kept(self, group: str) -> dict[str, str]:
        """Return the names of the persons that a group keeps."""
        return {one.person.id: one.person.name for one in await self.read(kept_page, group, "", 1000)}

    async def access(self, sn: str) -> dict[str, list[str]]:
        """Return by person through what a terminal holds them."""
        shown = await self.person_system.persons(sn)
        return {one["id"]: one["access"] for one in shown if one["wanted"] != "removed"}

    def write(self, *rows: dict[str, Any], name: str = "persons.csv") -> Path:
        """Write a CSV of these rows."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        (self.folder / name).write_text(text.getvalue())
        return self.folder / name

    def picture(self, person_id: str, number: int = 1) -> Path:
        """Put a picture of a person into the folder of pictures, and return that."""
        photos = self.folder / "photos"
        photos.mkdir(exist_ok=True)
        (photos / f"{person_id}.jpg").write_bytes(sample_photo(number, (64, 80)))
        return photos

    async def check(
        self,
        file: Path,
        sns: Sequence[str] = ("T1",),
        *,
        group: str | None = None,
        photos: Path | None = None,
        prune: bool = False,
    ) -> tuple[CheckedFile, Differences]:
        """Check a file, and change nothing."""
        with self._spool() as spool:
            return await self._check(file, TransferTarget(sns, group), spool, photos, prune=prune)

    async def import_(
        self,
        file: Path,
        sns: Sequence[str] = ("T1",),
        *,
        group: str | None = None,
        photos: Path | None = None,
        prune: bool = False,
        between: Any = None,
    ) -> Imported:
        """Import a file; `between` is called after the check."""
        with self._spool() as spool:
            checked, differences = await self._check(file, TransferTarget(sns, group), spool, photos, prune=prune)
            assert not checked.faults
            assert not differences.faults
            if between is not None:
                await between()
            late = await apply_import(self.context, checked.persons, differences, spool, ignore)
            return Imported(checked, differences, late)

    async def export(self, name: str, source: CopySource = FIRST_TERMINAL, photos: Path | None = None) -> Exported:
        """Export into a file of the folder."""
        with write_person_file(self.folder / name, photos) as writer:
            return await export_persons(self.database, PLAIN, source, 1, writer, ignore)

    @contextmanager
    def _spool(self) -> Any:
        with PhotoSpool(self.folder) as spool:
            yield spool

    async def _check(
        self, file: Path, target: TransferTarget, spool: PhotoSpool, photos: Path | None, *, prune: bool
    ) -> tuple[CheckedFile, Differences]:
        with open_person_file(file, photos) as opened:
            checked = await check_file(opened, self.person_system.photos, spool, UTC, ignore)
        differences = await find_differences(self.database, checked.persons, target, prune=prune, progress=ignore)
        return checked, differences


@asynccontextmanager
async def transfer_system(
    folder: Path, *, bridge_running: bool = False, **details: Any
) -> AsyncIterator[TransferSystem]:
    """Run a service and another program; `details` are arguments of `PersonSystem`."""
    async with person_system(folder, **details) as system:
        database = await Database.open(f"sqlite:///{folder}/store.db")
        try:
            yield TransferSystem(system, database, folder, bridge_running=bridge_running)
        finally:
            await database.close()
