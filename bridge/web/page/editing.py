"""Adding and editing a person: the form, the photo's check, and where the person is sent."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bridge.core.ports import PersonCommand
from bridge.model.commands import SetPersons
from bridge.model.faults import Fault, InvalidError
from bridge.model.messages import TranslatableMessage, message
from bridge.model.names import ALL_TERMINALS, is_person_id
from bridge.model.person import WEEKDAYS, Person
from bridge.model.reply import Outcome, Reply
from bridge.persons.photos.sources import AttachedPhoto
from bridge.persons.preparation import PreparedPhoto
from bridge.persons.schema import merge, parse_person
from bridge.persons.timestamps import local_time
from bridge.persons.weekly import parse_weekly
from bridge.web.api.common import path_of_person, person_id_in_path
from bridge.web.authentication import require_role
from bridge.web.errors import RequestError
from bridge.web.page.context import PageServices
from bridge.web.page.forms import (
    MAX_FORM_BYTES,
    PageRouter,
    Upload,
    UploadLimits,
    origin_of,
    read_upload,
)
from bridge.web.page.persons import DAY_NAMES, holders, week
from bridge.web.page.rendering import Renderer, redirect
from bridge.web.page.translations import noop

_UPLOAD_SECONDS = 60.0

_MAX_UPLOADS = 4
"""Forms with a photo that are in memory at once, each with up to some 30 MB."""

_UPLOAD_WAIT_SECONDS = 30.0

_MAX_LISTED_TERMINALS = 100
"""Terminals that the form lists one by one. With more, it offers groups and a field for serial numbers."""

_PHOTO_FIELDS = ("photo", "photo-camera")
"""A file, or a picture from a phone's camera; the first one that is given is used."""

_TEXTS = ("name", "card", "id_number", "valid_from", "valid_until", "pass_count")
_TIME_FORMAT = "%Y-%m-%dT%H:%M"
"""The form of `<input type="datetime-local">`."""


@dataclass(frozen=True, slots=True)
class _Form:
    """The submitted form.

    Attributes:
        values: the text fields; also `weekly` and the days.
        photo: the new photo; None if none was chosen.
        groups: the chosen groups.
        sns: the chosen terminals.
    """

    values: Mapping[str, str]
    photo: PreparedPhoto | None
    groups: Sequence[str]
    sns: Sequence[str]


@dataclass(slots=True)
class _Faults:
    """The faults of a form, by field."""

    by_field: dict[str, str] = field(default_factory=dict)

    def add(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            name, _, rest = fault.path.partition(".")
            text = fault.message
            if rest:
                text = message("%(place)s: %(fault)s", place=TranslatableMessage(rest, rest, {}), fault=text)
            before = self.by_field.get(name)
            self.by_field[name] = (
                text if before is None else message("%(first)s; %(second)s", first=before, second=text)
            )


class PersonEditing:
    """The form of a person."""

    def __init__(self, services: PageServices, renderer: Renderer) -> None:
        self._core = services.core
        self._services = services
        self._renderer = renderer
        self._limits = UploadLimits(services.max_photo_bytes, _UPLOAD_SECONDS)
        self._uploads = asyncio.Semaphore(_MAX_UPLOADS)

    def add_to(self, router: PageRouter) -> None:
        """Add the routes."""
        max_bytes = self._limits.max_file_bytes + 8 * MAX_FORM_BYTES
        router.get("/person-new", self._new)
        router.post("/person-new", self._add, max_bytes)
        router.get("/persons/{id}/edit", self._edit)
        router.post("/persons/{id}/edit", self._save, max_bytes)
        router.post("/photo-check", self._check_photo, max_bytes)

    async def _new(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        return self._form(request, None, _values_of(None), {})

    async def _add(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        async with self._place():
            faults = _Faults()
            upload = await read_upload(request, self._limits)
            form = await self._read(upload, faults)
            person_id = form.values.get("id", "").strip()
            if not is_person_id(person_id):
                faults.add([Fault("id", noop("1 to 64 letters, digits and _ . @ -"))])
            elif await self._services.person_reader.everywhere(person_id, 1) is not None:
                faults.add([Fault("id", noop("there is a person with this number: edit that person"))])
            if not form.groups and not form.sns:
                faults.add([Fault("on", noop("choose at least one terminal or group"))])
            changes = _changes(_values_of(None), form.values, faults)
            if not faults.by_field:
                await self._change(request, {"id": person_id, **changes}, None, form, faults)
            if faults.by_field:
                return self._form(request, None, upload.fields, faults.by_field, status=400)
            return redirect(request, f"persons/{path_of_person(person_id)}")

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        person = await self._person(request)
        return self._form(request, person, _values_of(person), {})

    async def _save(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        person = await self._person(request)
        async with self._place():
            faults = _Faults()
            upload = await read_upload(request, self._limits)
            form = await self._read(upload, faults)
            changes = _changes(_values_of(person), form.values, faults)
            if not faults.by_field:
                await self._change(request, {"id": person.id, **changes}, person, form, faults)
            if faults.by_field:
                return self._form(request, person, upload.fields, faults.by_field, status=400)
            return redirect(request, f"persons/{path_of_person(person.id)}")

    async def _check_photo(self, request: web.Request) -> web.StreamResponse:
        """Show whether a photo can be used, before the form is sent."""
        require_role(request, "admin")
        async with self._place():
            faults = _Faults()
            form = await self._read(await read_upload(request, self._limits), faults)
        return self._renderer.page(request, "_photo_verdict.html", photo=form.photo, fault=faults.by_field.get("photo"))

    async def _change(
        self,
        request: web.Request,
        values: dict[str, Any],
        stored: Person | None,
        form: _Form,
        faults: _Faults,
    ) -> None:
        """Check a change as the intake does, and carry it out; add the faults if it is not possible."""
        try:
            patch = parse_person(values, timezone=self._services.timezone)
            merge(patch, stored, None if form.photo is None else form.photo.sha256)
        except InvalidError as error:
            faults.add(error.faults)
            return
        if form.photo is not None:
            values["photo"] = b64encode(form.photo.jpeg).decode()
        origin = origin_of(request)
        commands: list[PersonCommand] = []
        if stored is not None and len(values) > 1:
            change = SetPersons(persons=[values])
            sns = await holders(self._services.person_reader, self._core.registry, stored.id)
            commands += [PersonCommand(change=change, origin=origin, sn=sn) for sn in sns]
        if form.groups or form.sns:
            complete = SetPersons(persons=[await self._complete(values, stored)])
            commands += [PersonCommand(change=complete, origin=origin, group=name) for name in form.groups]
            commands += [PersonCommand(change=complete, origin=origin, sn=sn) for sn in form.sns]
        if not commands:
            return
        for result in await self._core.persons.change(commands):
            if isinstance(result, Sequence):
                _add_reply(result[0], faults)
            elif result.outcomes.get(Outcome.UNAVAILABLE):
                faults.add([Fault("", noop("The bridge cannot store this now. Nothing was changed."))])

    async def _complete(self, values: Mapping[str, Any], stored: Person | None) -> Mapping[str, Any]:
        """Return all fields of a person, for terminals that do not hold the person yet. Raises RequestError."""
        if stored is None:
            return values
        complete = {**stored.as_json(), **values}
        if "photo" not in complete:
            jpeg = await self._services.person_reader.photo(stored.photo)
            if jpeg is None:
                raise RequestError(404, noop("The photo is missing or damaged: choose a new one."))
            complete["photo"] = b64encode(jpeg).decode()
        return complete

    async def _read(self, upload: Upload, faults: _Faults) -> _Form:
        photo = None
        chosen = next((upload.files[name] for name in _PHOTO_FIELDS if name in upload.files), None)
        if chosen is not None:
            name, content = chosen
            try:
                photo = await self._services.prepare_photo(AttachedPhoto(name, lambda _max_bytes: content))
            except InvalidError as error:
                faults.add(error.faults)
        values = upload.fields
        groups = [name.removeprefix("on-group-") for name in values if name.startswith("on-group-")]
        sns = [name.removeprefix("on-terminal-") for name in values if name.startswith("on-terminal-")]
        sns += values.get("on-sns", "").replace(",", " ").split()
        unknown = [sn for sn in sns if sn not in self._core.registry]
        unknown += [name for name in groups if not self._core.registry.members(name)]
        if unknown:
            faults.add([Fault("on", message("terminal or group %(name)s is not known", name=unknown[0]))])
        return _Form(values, photo, [ALL_TERMINALS] if ALL_TERMINALS in groups else groups, sns)

    def _form(
        self,
        request: web.Request,
        person: Person | None,
        values: Mapping[str, str],
        faults: Mapping[str, str],
        *,
        status: int = 200,
    ) -> web.Response:
        known = sorted(self._core.registry, key=lambda one: (one.terminal.title.casefold(), one.terminal.sn))
        groups = sorted({group for one in known for group in one.terminal.groups})
        few = len(known) <= _MAX_LISTED_TERMINALS
        details: dict[str, Any] = {
            "person": person,
            "values": values,
            "faults": faults,
            "groups": [(name, len(self._core.registry.members(name))) for name in groups],
            "terminals": [one.terminal for one in known] if few else None,
            "known": len(known),
            "days": [(day, DAY_NAMES[day], _day(day, values)) for day in WEEKDAYS],
            "max_megabytes": self._limits.max_file_bytes / 1e6,
        }
        return self._renderer.page(request, "person_form.html", status, **details)

    async def _person(self, request: web.Request) -> Person:
        person_id = person_id_in_path(request)
        found = None
        if is_person_id(person_id):
            found = await self._services.person_reader.everywhere(person_id, 1)
        if found is None or found.summary.person is None:
            raise RequestError(404, noop("No terminal has this person."))
        return found.summary.person

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Let only so many forms with photos into the memory at once. Raises RequestError."""
        try:
            async with asyncio.timeout(_UPLOAD_WAIT_SECONDS):
                await self._uploads.acquire()
        except TimeoutError:
            raise RequestError(503, "too many photos are being uploaded; try again") from None
        try:
            yield
        finally:
            self._uploads.release()


def _values_of(person: Person | None) -> dict[str, str]:
    """Return the form's fields for a person; those of an empty form for None."""
    if person is None:
        return {**dict.fromkeys(_TEXTS, ""), "enabled": "yes", **dict.fromkeys((f"day-{day}" for day in WEEKDAYS), "")}
    values = {
        "name": person.name,
        "card": person.card or "",
        "id_number": person.id_number or "",
        "valid_from": _local(person.valid_from),
        "valid_until": _local(person.valid_until),
        "pass_count": "" if person.pass_count is None else str(person.pass_count),
    }
    if person.visitor:
        values["visitor"] = "yes"
    if person.enabled:
        values["enabled"] = "yes"
    if person.weekly is not None:
        values["weekly"] = "yes"
    days = dict.fromkeys(WEEKDAYS, "") if person.weekly is None else person.weekly.by_day()
    return {**values, **{f"day-{day}": hours for day, hours in days.items()}}


def _changes(before: Mapping[str, str], after: Mapping[str, str], faults: _Faults) -> dict[str, Any]:
    """Return the fields that the user has changed, as a person's JSON. A field that stays is not rounded or reset."""
    changes: dict[str, Any] = {}
    for name in _TEXTS:
        value = after.get(name, "").strip()
        if value != before[name]:
            changes[name] = _json_value(name, value, faults)
    for name in ("visitor", "enabled"):
        if (name in after) != (name in before):
            changes[name] = name in after
    days = {day: after.get(f"day-{day}", "").strip() for day in WEEKDAYS}
    is_on, was_on = "weekly" in after, "weekly" in before
    if is_on != was_on or (is_on and any(days[day] != before[f"day-{day}"] for day in WEEKDAYS)):
        changes["weekly"] = {day: _hours(hours) for day, hours in days.items()} if is_on else None
    return changes


def _json_value(name: str, value: str, faults: _Faults) -> object:
    if value == "":
        return "" if name == "name" else None
    if name != "pass_count":
        return value
    if value.isascii() and value.isdigit() and len(value) < 6:
        return int(value)
    faults.add([Fault(name, noop("must be a number from 0 to 9999, or empty"))])
    return None


def _hours(text: str) -> str | None:
    return text.replace("，", ";").replace(",", ";").replace("；", ";").replace("：", ":").replace("–", "-") or None


def _local(seconds: float | None) -> str:
    return "" if seconds is None else local_time(seconds).strftime(_TIME_FORMAT)


def _day(day: str, values: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a day for its drawing; hours that cannot be read are not drawn."""
    hours = values.get(f"day-{day}", "")
    try:
        rule = parse_weekly({day: _hours(hours), "default": None})
    except InvalidError:
        rule = None
    bars = () if rule is None else week(rule)[WEEKDAYS.index(day)].bars
    return {"hours": hours, "bars": bars}


def _add_reply(reply: Reply, faults: _Faults) -> None:
    if reply.outcome is Outcome.INVALID:
        faults.add(reply.faults or [Fault("", reply.message or "")])
    elif reply.outcome is Outcome.UNAVAILABLE:
        faults.add([Fault("", noop("The bridge cannot store this now. Nothing was changed."))])
