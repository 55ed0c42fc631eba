"""Answers over HTTP: replies as MQTT has them, with the status codes of CONTRACT, section 6."""

from collections.abc import Mapping
from typing import Any

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

_WORST_FIRST = (
    Outcome.UNAVAILABLE,
    Outcome.EXPIRED,
    Outcome.TIMEOUT,
    Outcome.LOST,
    Outcome.REFUSED,
    Outcome.OFFLINE,
    Outcome.INVALID,
    Outcome.ACCEPTED,
    Outcome.OK,
)
"""Which outcome gives a group its status: 200 means that every member did it."""


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Build a JSON response."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json", headers=headers)


def error_response(
    status: int, message: str, *, path: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """Build the response to a request that came to nothing: the shape of an `invalid` reply's `errors`."""
    value: dict[str, Any] = {"outcome": "invalid", "errors": [{"path": path, "message": message}]}
    return json_response(value, status, headers)


def reply_response(reply: Reply) -> web.Response:
    """Build the response of one terminal's reply."""
    return json_response(reply.as_json(), STATUS[reply.outcome])


def summary_response(summary: GroupSummary) -> web.Response:
    """Build the response of a group's summary; its status is that of the worst outcome."""
    worst = next((outcome for outcome in _WORST_FIRST if outcome in summary.outcomes), Outcome.OK)
    return json_response(summary.as_json(), STATUS[worst])
