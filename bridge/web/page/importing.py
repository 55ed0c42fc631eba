"""The pages of an import, from the upload to the report, and the export."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, Any

import orjson
from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from bridge.import_export.context import TransferTarget
from bridge.import_export.differences import DifferenceKind, FieldChange
from bridge.model.names import ALL_TERMINALS
from bridge.persons.changes import CopySource
from bridge.web.authentication import require_form_token, require_role
from bridge.web.connections import add_common_headers
from bridge.web.errors import RequestError
from bridge.web.page.context import PageServices
from bridge.web.page.forms import PageRouter, origin_of, read_form
from bridge.web.page.import_jobs import ImportJob, ImportJobs
from bridge.web.page.rendering import Renderer, redirect
from bridge.web.page.translations import noop
from bridge.web.page.upload_folder import UploadFolder

_MAX_FILE_BYTES = 1 << 30
"""Ten thousand persons with photos of 100 kB each. Larger files can be imported with `facebridge persons import`."""

_UPLOAD_SECONDS = 1_800.0
_MAX_FIELD_BYTES = 4_096
_SHOWN_DIFFERENCES = 200
_SHOWN_FAULTS = 200
_MAX_LISTED_TERMINALS = 200
_MAX_FIELDS = 16
_CHUNK_BYTES = 1 << 18

_SUFFIXES = (".csv", ".json", ".zip")

STEP_NAMES = {
    "checking": noop("Checking the file"),
    "comparing": noop("Comparing with the stored persons"),
    "importing": noop("Importing"),
    "removing": noop("Removing"),
}


class ImportPages:
    """Pages for importing many persons."""

    def __init__(self, services: PageServices, renderer: Renderer, jobs: ImportJobs, folder: UploadFolder) -> None:
        self._registry = services.core.registry
        self._reader = services.person_reader
        self._folder = folder
        self._renderer = renderer
        self._jobs = jobs

    def add_to(self, router: PageRouter) -> None:
        """Add the routes."""
        router.get("/import", self._form)
        router.post("/import", self._upload, _MAX_FILE_BYTES + 65_536)
        router.get("/import/{job}", self._show)
        router.post("/import/{job}/apply", self._apply)
        router.post("/import/{job}/discard", self._discard)
        router.get("/export", self._export_form)
        router.post("/export", self._export)

    async def _form(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        return self._renderer.page(request, "import.html", job=self._jobs.job, **await self._targets())

    async def _targets(self) -> dict[str, Any]:
        # A group without members may keep persons.
        keeping = set(await self._reader.group_sizes()) - {ALL_TERMINALS}
        known = sorted(self._registry, key=lambda one: one.terminal.title.casefold())
        return {
            "known": len(known),
            "groups": sorted(keeping.union(*(one.terminal.groups for one in known))),
            "terminals": [one.terminal for one in known] if len(known) <= _MAX_LISTED_TERMINALS else [],
        }

    async def _chosen(self, target: str) -> TransferTarget:
        """Return a chosen terminal or group. Raises RequestError if there is none with that name."""
        kind, _, name = target.partition(":")
        members = self._registry.members(name) if kind == "group" else []
        sns = [name] if kind == "terminal" and name in self._registry else sorted(one.terminal.sn for one in members)
        if not sns and (kind != "group" or name not in await self._reader.group_sizes()):
            raise RequestError(400, noop("Choose where the persons belong: a terminal, a group or all terminals."))
        return TransferTarget(sns, name if kind == "group" else None)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        if self._jobs.job is not None and self._jobs.job.is_running:
            raise RequestError(503, noop("Another import is running. Wait until it ends."))
        async with self._received(request) as (fields, file, name):
            target = await self._chosen(fields.get("target", ""))
            job = self._jobs.start(file, name, target, origin_of(request), prune="prune" in fields)
        return redirect(request, f"import/{job.id}")

    async def _show(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        job = self._jobs.get(request.match_info["job"])
        values: dict[str, Any] = {"job": job, "step": STEP_NAMES.get(job.what, job.what), **_shown(job)}
        return self._renderer.live_page(request, "import_job.html", **values)

    async def _apply(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        form = await read_form(request)
        job = self._jobs.get(request.match_info["job"])
        if not job.removes_many or "confirm" in form:
            self._jobs.apply(job)
        return redirect(request, f"import/{job.id}")

    async def _discard(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        await read_form(request)
        self._jobs.get(request.match_info["job"])
        self._jobs.discard()
        return redirect(request, "import")

    async def _export_form(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        return self._renderer.page(request, "export.html", **await self._targets())

    async def _export(self, request: web.Request) -> web.StreamResponse:
        """Send a file of persons. It is made on the disk first, because it may not fit into the memory."""
        require_role(request, "admin")
        target = await self._chosen((await read_form(request)).get("target", ""))
        source = CopySource(sn=None if target.group else target.sns[0], group=target.group)
        folder = await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder.path)
        try:
            path = Path(folder) / "persons.zip"
            await self._jobs.export(source, path)
            response = web.StreamResponse(
                headers={
                    hdrs.CONTENT_TYPE: "application/zip",
                    hdrs.CONTENT_DISPOSITION: 'attachment; filename="persons.zip"',
                }
            )
            response.content_length = path.stat().st_size
            add_common_headers(response)
            response.force_close()
            await response.prepare(request)
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    await response.write(chunk)
            return response
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    @asynccontextmanager
    async def _received(self, request: web.Request) -> AsyncIterator[tuple[dict[str, str], Path, str]]:
        """Store the uploaded file, and delete it if the block fails. Raises RequestError."""
        if request.content_type != "multipart/form-data":
            raise RequestError(415, "the form must be multipart/form-data", path=hdrs.CONTENT_TYPE)
        path: Path | None = None
        try:
            async with asyncio.timeout(_UPLOAD_SECONDS):
                fields, path, name = await _store(request, self._folder.path)
            yield fields, path, name
        except TimeoutError:
            raise RequestError(408, "the file did not arrive in time: send it again") from None
        except (web.RequestPayloadError, HttpProcessingError, ValueError, RuntimeError, AssertionError):
            # aiohttp's reader raises the last four for parts whose headers, boundaries or encodings are wrong.
            raise RequestError(400, "the form is malformed") from None
        except OSError as error:
            raise RequestError(503, f"the file cannot be stored: {error.strerror}") from None
        except RequestError:
            if path is not None:
                path.unlink(missing_ok=True)
            raise


async def _store(request: web.Request, folder: Path) -> tuple[dict[str, str], Path, str]:
    """Write the file of a form to the disk; return the other fields, the path and the file's name.

    Raises:
        RequestError: the form has no usable file, or the file is too large.
        OSError: the disk is full.
    """
    fields: dict[str, str] = {}
    path: Path | None = None
    name = ""
    try:
        parts = await request.multipart()
        while (part := await parts.next()) is not None:
            if not isinstance(part, BodyPartReader) or part.name is None or len(fields) > _MAX_FIELDS:
                raise RequestError(400, "the form is malformed")
            if part.filename is None:
                fields[part.name] = (await _read_text(part)).decode()
            elif path is None:
                require_form_token(request, fields)
                name = PurePath(part.filename).name
                suffix = PurePath(name).suffix.lower()
                if suffix not in _SUFFIXES:
                    raise RequestError(400, noop("Choose a file that ends with .csv, .json or .zip."))
                handle, created = tempfile.mkstemp(suffix, dir=folder)
                path = Path(created)
                with os.fdopen(handle, "wb") as file:
                    await _copy(part, file)
        if path is None:
            raise RequestError(400, noop("Choose a file that ends with .csv, .json or .zip."))
    except BaseException:
        if path is not None:
            path.unlink(missing_ok=True)
        raise
    return fields, path, name


async def _copy(part: BodyPartReader, file: IO[bytes]) -> None:
    size = 0
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        size += len(chunk)
        if size > _MAX_FILE_BYTES:
            limit = f"{_MAX_FILE_BYTES / 1e9:.1f} GB"
            raise RequestError(413, f"the file is too large: at most {limit}; use facebridge persons import")
        # The disk may be slow, and a press must not wait for it.
        await asyncio.to_thread(file.write, chunk)


async def _read_text(part: BodyPartReader) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk():
        content += chunk
        if len(content) > _MAX_FIELD_BYTES:
            raise RequestError(413, "a field of the form is too large")
    return bytes(content)


def _shown(job: ImportJob) -> dict[str, Any]:
    """Return the part of a job's result that fits on a page."""
    differences = job.differences
    if differences is None or job.is_running:
        return {"totals": None, "changes": [], "unchanged": 0, "more": 0, "faults": [], "removed": 0, "held": 0}
    totals, found = differences.totals(), differences.changes
    changes = [
        {
            "id": difference.person_id,
            "kind": difference.kind.value,
            "fields": [_field(one) for one in difference.fields],
            "where": None if not sns or len(sns) == len(differences.sns) else len(sns),
        }
        for difference, sns in islice(found.items(), _SHOWN_DIFFERENCES)
    ]
    return {
        "totals": {kind.value: totals[kind] for kind in DifferenceKind},
        "changes": changes,
        "unchanged": sum(differences.unchanged.values()),
        "more": max(len(found) - _SHOWN_DIFFERENCES, 0),
        "faults": [fault.described() for fault in job.faults[:_SHOWN_FAULTS]],
        "removed": differences.removed_persons,
        "held": differences.held_persons,
    }


def _field(change: FieldChange) -> dict[str, str | None]:
    if change.name == "photo":
        return {"name": change.name, "before": None, "after": None}
    return {"name": change.name, "before": _text(change.before), "after": _text(change.after)}


def _text(value: Any) -> str:
    return orjson.dumps(dict(value) if isinstance(value, tuple) else value).decode()
