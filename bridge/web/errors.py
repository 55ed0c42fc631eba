"""Answers over HTTP: replies as MQTT has them, with the status codes of CONTRACT, section 6."""

from collections.abc import Mapping

import orjson
from aiohttp import web

from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply

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
"""Which outcome gives a group its status: 200 means that every member did it."""


class RequestError(Exception):
    """A request that came to nothing before there was a command to reply to.

    Attributes:
        status: of the response.
        message: what is wrong, and what would be right.
        path: which part of the request: a header's name, a part of its path; empty for the whole.
        headers: that go with the status.
    """

    def __init__(self, status: int, message: str, *, path: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.path = path
        self.headers = headers

    def response(self) -> web.Response:
        """Build the response: the part of an `invalid` reply that holds without a command."""
        outcome = Outcome.UNAVAILABLE if self.status >= 500 else Outcome.INVALID
        errors = [{"path": self.path, "message": self.message}]
        return json_response({"outcome": outcome.value, "errors": errors}, self.status, self.headers)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Build a JSON response."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json", headers=headers)


def reply_response(reply: Reply, status: int | None = None) -> web.Response:
    """Build the response of one reply; its status is that of its outcome unless another is given."""
    return json_response(reply.as_json(), STATUS[reply.outcome] if status is None else status)


def summary_response(summary: GroupSummary) -> web.Response:
    """Build the response of a group's summary; its status is that of the worst outcome."""
    worst = next(outcome for outcome in WORST_FIRST if summary.outcomes.get(outcome))
    return json_response(summary.as_json(), STATUS[worst])
