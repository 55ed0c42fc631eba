"""JSON responses: replies as over MQTT with their status codes (docs/http.md), and errors of requests."""

from collections.abc import Mapping

import orjson
from aiohttp import web

from bridge.model.reply import GroupSummary, Outcome, Reply

STATUS: Mapping[Outcome, int] = {
    Outcome.OK: 200,
    Outcome.ACCEPTED: 202,
    Outcome.SUPERSEDED: 200,
    Outcome.INVALID: 400,
    Outcome.OFFLINE: 409,
    Outcome.REFUSED: 502,
    Outcome.LOST: 502,
    Outcome.UNAVAILABLE: 503,
    Outcome.TIMEOUT: 504,
    Outcome.EXPIRED: 504,
}
"""The HTTP status of each outcome."""

WORST_FIRST = (
    Outcome.UNAVAILABLE,
    Outcome.EXPIRED,
    Outcome.TIMEOUT,
    Outcome.LOST,
    Outcome.REFUSED,
    Outcome.OFFLINE,
    Outcome.INVALID,
    Outcome.ACCEPTED,
    Outcome.SUPERSEDED,
    Outcome.OK,
)
"""The order in which an outcome of a member decides a group's status; 200 means success at every member."""


class RequestError(Exception):
    """A request that failed before there was a command to reply to.

    Attributes:
        status: of the response.
        message: the fault and the remedy.
        path: the part of the request with the fault: a header, a part of the URL path; empty for the whole request.
        headers: additional headers of the response.
    """

    def __init__(self, status: int, message: str, *, path: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.path = path
        self.headers = headers

    def response(self) -> web.Response:
        """Return the response: the keys of an `invalid` or `unavailable` reply that need no command."""
        outcome = Outcome.UNAVAILABLE if self.status >= 500 else Outcome.INVALID
        errors = [{"path": self.path, "message": self.message}]
        return json_response({"outcome": outcome.value, "errors": errors}, self.status, self.headers)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json", headers=headers)


def reply_response(reply: Reply, status: int | None = None) -> web.Response:
    """Return the response for a reply; its status is that of the outcome, unless `status` is given."""
    return json_response(reply.as_json(), STATUS[reply.outcome] if status is None else status)


def summary_response(summary: GroupSummary) -> web.Response:
    """Return the response for a group's summary; its status is that of the worst outcome.

    A group without members has no outcome: removing its persons is done at once.
    """
    worst = next((outcome for outcome in WORST_FIRST if summary.outcomes.get(outcome)), Outcome.OK)
    return json_response(summary.as_json(), STATUS[worst])
