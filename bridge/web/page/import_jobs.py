"""Imports of files with persons: checked, shown, and applied only after a confirmation; one at a time."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bridge.core.tasks import BackgroundTasks
from bridge.import_export.checking import CheckedFile, RowFault, check_file
from bridge.import_export.context import TransferContext, TransferTarget
from bridge.import_export.copying import find_persons
from bridge.import_export.differences import Differences, find_differences
from bridge.import_export.exporting import export_persons
from bridge.import_export.importing import apply_import
from bridge.import_export.photo_spool import PhotoSpool
from bridge.import_export.reading import open_person_file
from bridge.import_export.rows import PersonFileError
from bridge.import_export.writing import write_person_file
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.persons.changes import CopySource
from bridge.persons.preparation import PhotoPreparer
from bridge.web.errors import RequestError
from bridge.web.page.translations import noop

_LOGGER = logging.getLogger(__name__)

_MAX_UNCONFIRMED_REMOVALS = 0.1
"""Part of a terminal's persons that an import removes without a second confirmation, as on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportTools:
    """What an import works with, opened anew for each of its steps.

    Attributes:
        context: changes persons beside the bridge.
        photos: converts pictures.
    """

    context: TransferContext
    photos: PhotoPreparer


OpenImportTools = Callable[[], AbstractAsyncContextManager[ImportTools]]
"""Opens the tools of one step on the event loop of the step's own thread."""


class _StoppedError(Exception):
    """The bridge stops."""


State = Literal["checking", "faulty", "ready", "applying", "done", "failed"]


@dataclass(slots=True, kw_only=True)
class ImportJob:
    """One import.

    Attributes:
        id: a random name for its address.
        file: the uploaded file; deleted after the check.
        name: the file's name, for people.
        target: the terminal, or the group with its members.
        prune: whether persons that are not in the file are removed.
        origin: the requester.
        state: the present step.
        what: what the step does now.
        percent: how much of that is done.
        checked: the content of the file.
        differences: what the import would change, or has changed.
        faults: the rows that are wrong.
        error: why the import failed.
        is_stopping: whether the bridge stops; the step then ends before its next transaction.
    """

    id: str
    file: Path
    name: str
    target: TransferTarget
    prune: bool
    origin: Origin = field(repr=False)
    spool: PhotoSpool = field(repr=False)
    state: State = "checking"
    what: str = "checking"
    percent: int = 0
    checked: CheckedFile | None = field(default=None, repr=False)
    differences: Differences | None = field(default=None, repr=False)
    faults: Sequence[RowFault] = field(default=(), repr=False)
    error: str | None = None
    is_stopping: bool = False

    @property
    def is_running(self) -> bool:
        """Whether a step runs."""
        return self.state in ("checking", "applying")

    @property
    def removes_many(self) -> bool:
        """Whether it removes so many persons that it needs a second confirmation."""
        return self.differences is not None and self.differences.removes_more_than(_MAX_UNCONFIRMED_REMOVALS)

    def progress(self, what: str, done: int, part: float) -> None:
        """Note the progress of a step. Raises _StoppedError."""
        del done
        if self.is_stopping:
            raise _StoppedError
        self.what, self.percent = what, min(int(part * 100), 100)


_Step = Callable[[ImportJob, ImportTools], Coroutine[Any, Any, None]]


class ImportJobs:
    """The present import. Each step runs in a thread with an event loop and a store of its own.

    So an import works on the store as `facebridge persons import` beside the bridge does, and no press waits for it.
    """

    def __init__(self, open_tools: OpenImportTools) -> None:
        self._open_tools = open_tools
        self._job: ImportJob | None = None
        self._tasks = BackgroundTasks()

    @property
    def job(self) -> ImportJob | None:
        """The present import; None if there is none."""
        return self._job

    def get(self, job_id: str) -> ImportJob:
        """Return the present import. Raises RequestError if it is another one."""
        if self._job is None or self._job.id != job_id:
            raise RequestError(404, noop("This import does not exist any more. Start it again."))
        return self._job

    def start(self, file: Path, name: str, target: TransferTarget, origin: Origin, *, prune: bool) -> ImportJob:
        """Begin to check a file, which is deleted then. Raises RequestError while another import runs."""
        if self._job is not None and self._job.is_running:
            raise RequestError(503, noop("Another import is running. Wait until it ends."))
        self.discard()
        spool = PhotoSpool(file.parent)
        job = ImportJob(
            id=secrets.token_hex(8), file=file, name=name, target=target, prune=prune, origin=origin, spool=spool
        )
        self._job = job
        self._run(job, _check)
        return job

    def apply(self, job: ImportJob) -> None:
        """Begin to apply a checked import."""
        if job.state == "ready":
            job.state = "applying"
            job.percent = 0
            self._run(job, _apply)

    def discard(self) -> None:
        """Forget the present import, if it does not run."""
        if self._job is not None and not self._job.is_running:
            self._job.spool.__exit__(None, None, None)
            self._job = None

    async def export(self, source: CopySource, path: Path) -> None:
        """Write the persons of a terminal or of a group into a file. Raises RequestError."""

        async def work() -> None:
            async with self._open_tools() as tools:
                database, cipher = tools.context.database, tools.context.transactions.context.cipher
                total = len(await find_persons(database, source))
                if source.group is not None and not total:
                    raise RequestError(400, f"group {source.group} keeps no persons: export a terminal")
                with write_person_file(path, None) as writer:
                    await export_persons(database, cipher, source, total, writer, lambda *_: None)

        try:
            await asyncio.to_thread(asyncio.run, work())
        except (PersonFileError, UnavailableError) as error:
            raise RequestError(503, error.args[0]) from None

    async def stop(self) -> None:
        """End the running step after its present transaction. Run again, the import continues where it stopped."""
        if self._job is not None:
            self._job.is_stopping = True
        await self._tasks.stop()

    def _run(self, job: ImportJob, step: _Step) -> None:
        self._tasks.start(asyncio.to_thread(_in_thread, job, step, self._open_tools), name="import of persons")


def _in_thread(job: ImportJob, step: _Step, open_tools: OpenImportTools) -> None:
    async def work() -> None:
        async with open_tools() as tools:
            await step(job, replace(tools, context=replace(tools.context, origin=job.origin)))

    try:
        asyncio.run(work())
    except _StoppedError:
        job.error, job.state = noop("The bridge stopped."), "failed"
    except (PersonFileError, UnavailableError) as error:
        job.error, job.state = error.args[0], "failed"
    except OSError as error:
        job.error, job.state = error.strerror or "no space", "failed"
    except Exception:
        _LOGGER.exception("an import failed")
        job.error, job.state = "the bridge failed; its log has the details", "failed"
    finally:
        with contextlib.suppress(OSError):
            job.file.unlink(missing_ok=True)


async def _check(job: ImportJob, tools: ImportTools) -> None:
    with open_person_file(job.file, None) as opened:
        job.checked = await check_file(opened, tools.photos, job.spool, tools.context.timezone, job.progress)
    differences = await find_differences(
        tools.context.database, job.checked.persons, job.target, prune=job.prune, progress=job.progress
    )
    job.differences = differences
    job.faults = sorted([*job.checked.faults, *differences.faults], key=lambda fault: fault.row)
    if job.prune and not job.checked.persons:
        job.error = noop("The file contains no persons, so everyone would be removed. Nothing was changed.")
    job.state = "faulty" if job.faults or job.error else "ready"


async def _apply(job: ImportJob, tools: ImportTools) -> None:
    assert job.checked is not None
    assert job.differences is not None
    job.faults = await apply_import(tools.context, job.checked.persons, job.differences, job.spool, job.progress)
    job.state = "done"
