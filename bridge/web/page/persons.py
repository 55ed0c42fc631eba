"""The list of persons, one person with the state on each terminal, and removal everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from aiohttp import web

from bridge.core.ports import PersonCommand
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import RemovePersons, SetPersons
from bridge.model.names import ALL_TERMINALS, is_person_id
from bridge.model.person import WEEKDAYS, Person, Weekly
from bridge.model.person_entry import OWN_SCOPE, DeliveryState, PersonEntry, Wanted
from bridge.model.person_summary import PersonEverywhere, PersonFilter
from bridge.persons.reading import PersonReader
from bridge.persons.timestamps import local_time
from bridge.web.api.common import path_of_person, person_id_in_path
from bridge.web.api.persons import photo_response
from bridge.web.authentication import require_role
from bridge.web.errors import RequestError
from bridge.web.page.context import PageServices
from bridge.web.page.forms import PageRouter, origin_of, read_form
from bridge.web.page.rendering import Renderer, is_partial, redirect
from bridge.web.page.translations import noop

_PAGE_SIZE = 50
_MAX_PLACES = 100
"""Terminals of a person on one page."""
_READ_PLACES = 1_000
"""Terminals of a person that one query reads."""

_MAX_QUERY_CHARACTERS = 100

DELIVERIES = {
    "": noop("All"),
    "refused": noop("Refused"),
    "pending": noop("Pending"),
    "confirmed": noop("Confirmed"),
}
"""The filters of the list."""

DAY_NAMES = {
    "Monday": noop("Monday"),
    "Tuesday": noop("Tuesday"),
    "Wednesday": noop("Wednesday"),
    "Thursday": noop("Thursday"),
    "Friday": noop("Friday"),
    "Saturday": noop("Saturday"),
    "Sunday": noop("Sunday"),
}

_MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Bar:
    """A range of hours in the drawing of a day, in minutes."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a weekly plan."""

    name: str
    hours: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A person on one terminal; `groups` are those through which the terminal holds the person."""

    sn: str
    title: str
    is_known: bool
    is_online: bool
    last_seen: datetime | None
    tone: Literal["good", "bad", "warn"]
    state: str
    message: str | None
    status: int | None
    changed_at: datetime
    differs: bool
    groups: Sequence[str]


class PersonPages:
    """Pages that show persons, and change whether and where they are."""

    def __init__(self, services: PageServices, renderer: Renderer) -> None:
        self._core = services.core
        self._reader = services.person_reader
        self._renderer = renderer

    def add_to(self, router: PageRouter) -> None:
        """Add the routes."""
        router.get("/persons", self._list)
        router.get("/persons/{id}", self._detail)
        router.get("/persons/{id}/photo", self._photo)
        router.post("/persons/{id}/enabled", self._set_enabled)
        router.get("/persons/{id}/remove", self._confirm_removal)
        router.post("/persons/{id}/remove", self._remove)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        query = request.query.get("q", "").strip()[:_MAX_QUERY_CHARACTERS]
        delivery = request.query.get("delivery", "")
        if delivery not in DELIVERIES:
            delivery = ""
        after = request.query.get("after") or None
        wanted = PersonFilter(q=query or None, delivery=DeliveryState(delivery) if delivery else None)
        persons, total = await self._reader.persons(
            _PAGE_SIZE, after=after if after is None or is_person_id(after) else None, wanted=wanted
        )
        values: dict[str, Any] = {
            "persons": persons,
            "total": total,
            "query": query,
            "delivery": delivery,
            "deliveries": DELIVERIES,
            "after": after,
            "next": persons[-1].id if len(persons) == _PAGE_SIZE and total > _PAGE_SIZE else None,
        }
        return self._renderer.live_page(request, "persons.html", **values)

    async def _detail(self, request: web.Request) -> web.StreamResponse:
        person_id = _person_id(request)
        after = request.query.get("after", "")
        found = await self._reader.everywhere(person_id, _MAX_PLACES, after=after)
        if found is None:
            # After a removal, this is the proof that every terminal has confirmed it.
            is_removed = "removed" in request.query
            if not is_removed and not is_partial(request):
                raise RequestError(404, noop("No terminal has this person."))
            return self._renderer.live_page(
                request, "person.html", person_id=person_id, found=None, is_removed=is_removed
            )
        values: dict[str, Any] = {
            "person_id": person_id,
            "found": found,
            "is_removed": False,
            "places": [self._place(entry, found.summary.person) for entry in found.entries],
            "next": found.entries[-1].sn if found.more else None,
            "week": [] if found.summary.person is None else week(found.summary.person.weekly),
            "day_names": DAY_NAMES,
            "at": _at,
        }
        return self._renderer.live_page(request, "person.html", **values)

    async def _photo(self, request: web.Request) -> web.StreamResponse:
        found = await self._everywhere(request)
        if found.summary.person is None:
            raise RequestError(404, noop("This person is being removed."))
        return await photo_response(request, self._reader, found.summary.person.photo)

    async def _set_enabled(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        form = await read_form(request)
        found = await self._everywhere(request)
        person_id, enabled = found.summary.id, form.get("enabled") == "yes"
        change = SetPersons(persons=[{"id": person_id, "enabled": enabled}])
        sns = await holders(self._reader, self._core.registry, person_id)
        if sns:
            origin = origin_of(request)
            await self._core.persons.change([PersonCommand(change=change, origin=origin, sn=sn) for sn in sns])
        return redirect(request, f"persons/{path_of_person(person_id)}")

    async def _confirm_removal(self, request: web.Request) -> web.StreamResponse:
        require_role(request, "admin")
        person_id = _person_id(request)
        found = await self._reader.everywhere(person_id, 1)
        person = None if found is None else found.summary.person
        return self._renderer.page(request, "remove.html", person_id=person_id, person=person)

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        """Remove a person from every terminal and every group, also where the bridge does not know the person."""
        require_role(request, "admin")
        await read_form(request)
        person_id = _person_id(request)
        origin = origin_of(request)
        change = RemovePersons(ids=(person_id,))
        # Groups first: a terminal that joins one later must not receive the person again.
        groups = [
            name
            for name in await self._reader.group_sizes()
            if name != ALL_TERMINALS and await self._reader.one_in_group(name, person_id) is not None
        ]
        await self._core.persons.change(
            [PersonCommand(change=change, origin=origin, group=name) for name in (*groups, ALL_TERMINALS)]
        )
        return redirect(request, f"persons/{path_of_person(person_id)}?removed=yes")

    async def _everywhere(self, request: web.Request) -> PersonEverywhere:
        found = await self._reader.everywhere(_person_id(request), 1)
        if found is None:
            raise RequestError(404, noop("No terminal has this person."))
        return found

    def _place(self, entry: PersonEntry, newest: Person | None) -> Place:
        known = self._core.registry.get(entry.sn)
        is_online = known is not None and known.connection is not None
        tone, state = _state(entry, is_online=is_online)
        return Place(
            sn=entry.sn,
            title=entry.sn if known is None else known.terminal.title,
            is_known=known is not None,
            is_online=is_online,
            last_seen=None if known is None else known.last_seen,
            tone=tone,
            state=state,
            message=entry.message if entry.delivery is DeliveryState.REFUSED else None,
            status=entry.status if entry.delivery is DeliveryState.REFUSED else None,
            changed_at=entry.changed_at,
            differs=entry.person is not None and newest is not None and entry.person != newest,
            groups=[scope for scope in entry.access if scope != OWN_SCOPE],
        )


async def holders(reader: PersonReader, registry: TerminalRegistry, person_id: str) -> list[str]:
    """Return the known terminals that should hold a person, enabled or not. Raises UnavailableError."""
    sns: list[str] = []
    after = ""
    while (found := await reader.everywhere(person_id, _READ_PLACES, after=after)) is not None:
        sns += [one.sn for one in found.entries if one.person is not None and one.sn in registry]
        if not found.more:
            break
        after = found.entries[-1].sn
    return sns


def _state(entry: PersonEntry, *, is_online: bool) -> tuple[Literal["good", "bad", "warn"], str]:
    """Return the state of a person on a terminal: how it is shown, and the text."""
    if entry.delivery is DeliveryState.REFUSED:
        return "bad", noop("refused")
    if entry.delivery is DeliveryState.CONFIRMED:
        return "good", noop("on the terminal") if entry.wanted is Wanted.PRESENT else noop("not on the terminal")
    waits = {
        Wanted.PRESENT: noop("is being sent"),
        Wanted.DISABLED: noop("is being removed"),
        Wanted.REMOVED: noop("is being removed"),
    }
    return "warn", waits[entry.wanted] if is_online else noop("waits until the terminal is online")


def week(weekly: Weekly | None) -> list[Day]:
    """Return a weekly plan for its drawing; empty for none."""
    if weekly is None:
        return []
    return [Day(name, hours, tuple(_bars(hours))) for name, hours in zip(WEEKDAYS, weekly.ranges, strict=True)]


def _bars(hours: str) -> list[Bar]:
    bars = []
    for one in filter(None, hours.split(";")):
        start, _, end = one.partition("-")
        first, last = _minutes(start), _minutes(end)
        # 23:59 is the last time of a day.
        bars.append(Bar(first, (_MINUTES_A_DAY if last == _MINUTES_A_DAY - 1 else last) - first))
    return bars


def _minutes(time: str) -> int:
    hour, _, minute = time.partition(":")
    return int(hour) * 60 + int(minute)


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else local_time(seconds)


def _person_id(request: web.Request) -> str:
    person_id = person_id_in_path(request)
    if not is_person_id(person_id):
        raise RequestError(404, noop("No terminal has this person."))
    return person_id
