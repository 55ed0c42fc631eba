"""Checks responses of the HTTP API against its OpenAPI document: path, status, content type and body."""

import re
from functools import cache
from typing import Any

import aiohttp
import orjson
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator

from tests.support.contract import validator_of
from tools.openapi import document

_PREFIX = "/components/schemas/"


@cache
def _document() -> dict[str, Any]:
    return document()


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    paths = sorted(_document()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), path) for path in paths]


@cache
def _validator(path: str, method: str, status: str, content_type: str) -> Validator | None:
    responses = _document()["paths"][path][method]["responses"]
    schema = responses[status].get("content", {})[content_type].get("schema")
    if schema is None:
        return None
    return validator_of({**schema, "components": _document()["components"]}, closed=True)


class HttpContractWatch:
    """A middleware of aiohttp's client that collects the faults of responses.

    Attributes:
        faults: one line for each.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request and check its response."""
        response = await handler(request)
        method = "get" if request.method == "HEAD" else request.method.lower()
        path = next((path for pattern, path in _patterns() if pattern.fullmatch(request.url.path)), None)
        if path is None or method not in _document()["paths"][path]:
            return response
        fault = await self._fault(path, method, response)
        if fault is not None:
            self.faults.append(f"{request.method} {request.url.path_qs}, {response.status}: {fault}")
        return response

    def check(self) -> None:
        """Fail if a response had a fault."""
        assert not self.faults, "\n".join(self.faults)

    async def _fault(self, path: str, method: str, response: aiohttp.ClientResponse) -> str | None:
        responses = _document()["paths"][path][method]["responses"]
        status = str(response.status)
        if status not in responses:
            return "the status is not documented"
        content = responses[status].get("content", {})
        if not content or response.method == "HEAD":
            return "a body was not expected" if await response.read() else None
        if response.content_type not in content:
            return f"the content type {response.content_type} is not documented"
        if response.content_type != "application/json":
            return None
        validator = _validator(path, method, status, response.content_type)
        assert validator is not None
        fault = best_match(validator.iter_errors(orjson.loads(await response.read())))
        return None if fault is None else f"{fault.json_path}: {fault.message[:1000]}"
