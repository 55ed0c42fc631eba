"""`GET /api/log`: the audit, newest first."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from bridge.core.commands import COMMAND_NAME_SCHEMA, COMMANDS
from bridge.model.audit import AUDIT_RECORD_SCHEMA, AuditFilter, AuditRecord
from bridge.model.faults import InvalidError
from bridge.model.json_schema import TIME, described
from bridge.model.names import (
    MAXIMUM_REQUEST_ID_LENGTH,
    PERSON_ID_SCHEMA,
    SERIAL_NUMBER_SCHEMA,
    is_person_id,
    is_serial_number,
)
from bridge.model.reply import OUTCOME_SCHEMA, Outcome
from bridge.web.api.common import text_parameter
from bridge.web.api.paging import LIMIT, cursor_parameter, page_from, page_schema
from bridge.web.context import ReadAudit
from bridge.web.errors import RequestError, json_response
from bridge.web.routes import QUERY, QueryParameter, ResponseContent, Route

_MAX_USER_LENGTH = 128
_MAX_ID = 2**62
"""Above any id, and within the range of the databases' integers."""


def _parse_sn(value: str) -> str:
    if not is_serial_number(value):
        raise InvalidError.at("", "must be an SN: 1 to 64 letters, digits, _ and -")
    return value


def _parse_person_id(value: str) -> str:
    if not is_person_id(value):
        raise InvalidError.at("", "must be an id: 1 to 64 letters, digits and _ . @ -")
    return value


def _parse_command(value: str) -> str:
    names = [definition.name for definition in COMMANDS]
    if value not in names:
        raise InvalidError.at("", f"must be one of {', '.join(names)}")
    return value


def _parse_outcome(value: str) -> Outcome:
    try:
        return Outcome(value)
    except ValueError:
        raise InvalidError.at("", f"must be one of {', '.join(Outcome)}") from None


def _parse_time(value: str) -> datetime:
    try:
        # A "+" that is not percent-encoded arrives as a space.
        time = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
    except ValueError:
        raise InvalidError.at("", "must be a time such as 2026-11-24T08:00:00+01:00") from None
    if not 1970 <= time.year <= 9998:
        raise InvalidError.at("", "must be between 1970 and 9998")
    if time.tzinfo is None:
        raise InvalidError.at("", "needs an offset, as in 2026-11-24T08:00:00+01:00 or 2026-11-24T07:00:00Z")
    return time


class LogRoutes:
    """The route that shows the audit."""

    def __init__(self, read_audit: ReadAudit) -> None:
        self._read_audit = read_audit

    def routes(self) -> Iterator[Route]:
        """Return the route."""
        yield Route(
            method="GET",
            path="/api/log",
            handler=self._log,
            summary="List the commands with their senders and outcomes, the newest first",
            tag="log",
            query=(
                LIMIT,
                cursor_parameter(1),
                QueryParameter(
                    name="sn",
                    schema=described(SERIAL_NUMBER_SCHEMA, "only commands to this terminal"),
                    parse=_parse_sn,
                ),
                QueryParameter(
                    name="person_id",
                    schema=described(PERSON_ID_SCHEMA, "only changes of this person"),
                    parse=_parse_person_id,
                ),
                QueryParameter(
                    name="command", schema=described(COMMAND_NAME_SCHEMA, "only this command"), parse=_parse_command
                ),
                QueryParameter(
                    name="outcome", schema=described(OUTCOME_SCHEMA, "only with this outcome"), parse=_parse_outcome
                ),
                text_parameter("user", "only commands of this user", longest=_MAX_USER_LENGTH),
                text_parameter("request_id", "only with this request id", longest=MAXIMUM_REQUEST_ID_LENGTH),
                QueryParameter(name="since", schema=described(TIME, "not older than this"), parse=_parse_time),
                QueryParameter(name="until", schema=described(TIME, "not younger than this"), parse=_parse_time),
            ),
            responses={
                200: ResponseContent(
                    description="a page of the log",
                    schema=page_schema(AUDIT_RECORD_SCHEMA, "AuditPage", "A page of the log."),
                )
            },
        )

    async def _log(self, request: web.Request) -> web.StreamResponse:
        query = request[QUERY]
        limit: int = query["limit"]
        records, total = await self._read_audit(_filter(query), _before(query["cursor"]), limit + 1)
        page = page_from(records, total, limit, lambda record: (str(record.id),))
        return json_response(await page.as_json(AuditRecord.as_json))


def _before(cursor: tuple[str] | None) -> int | None:
    if cursor is None:
        return None
    (value,) = cursor
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(_MAX_ID)) and int(value) <= _MAX_ID):
        raise RequestError(400, "is not a cursor of this list: leave it out for the first page", path="cursor")
    return int(value)


def _filter(query: Mapping[str, Any]) -> AuditFilter:
    def one(name: str) -> tuple[Any, ...]:
        return () if query[name] is None else (query[name],)

    return AuditFilter(
        since=query["since"],
        until=query["until"],
        sns=one("sn"),
        person_id=query["person_id"],
        commands=one("command"),
        outcomes=one("outcome"),
        user=query["user"],
        request_id=query["request_id"],
    )
