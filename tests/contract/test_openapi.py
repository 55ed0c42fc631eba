"""The OpenAPI document is valid, and describes every route, method, parameter and status of the server."""

import re
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from bridge.model.schema_catalogue import Catalogue
from bridge.web.errors import STATUS
from tests.support.http_contract import HttpContractWatch
from tests.support.web import WebServerUnderTest
from tools.openapi import declared_routes, document

DOCUMENT = document()
OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}


def test_the_document_is_valid() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


async def test_every_route_of_the_api_is_described_and_no_other() -> None:
    site = WebServerUnderTest()
    routes = {
        (method, path)
        for method, path in site.server.routes
        if method != "HEAD" and (path.startswith("/api/") or path in ("/healthz", "/readyz", "/metrics"))
    }
    site.verifier.close()
    assert set(OPERATIONS) == routes


def test_every_operation_has_a_name_of_its_own_and_a_summary() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and not operation["summary"].endswith(".") for operation in OPERATIONS.values())


@pytest.mark.parametrize("route", list(declared_routes()), ids=lambda route: f"{route.method} {route.path}")
def test_parameters_and_bodies_are_those_of_the_route(route: Any) -> None:
    operation = OPERATIONS[route.method, route.path]
    described = {(one["name"], one["in"]) for one in operation["parameters"]}
    assert described == {
        *((name, "path") for name in re.findall(r"{(\w+)}", route.path)),
        *((parameter.name, "query") for parameter in route.query),
    }
    assert all(one["description"] for one in operation["parameters"])
    content = operation.get("requestBody", {}).get("content", {})
    assert set(content) == (set() if route.body is None else set(route.body.content))


def test_a_press_can_have_the_status_of_every_outcome_of_a_press() -> None:
    for path in ("/api/terminals/{sn}/open", "/api/groups/{name}/open"):
        described = {int(status) for status in OPERATIONS["POST", path]["responses"]}
        assert described >= set(STATUS.values()) - {202}


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=str)
async def test_what_the_document_allows_for_a_parameter_is_accepted(method: str, path: str) -> None:
    """The schemas of the query say the same as the code: their examples, bounds and words are accepted."""
    site = WebServerUnderTest()
    async with site.open() as session:
        for parameter in OPERATIONS[method, path]["parameters"]:
            if parameter["in"] == "query" and method == "GET" and path in ("/api/terminals", "/api/log"):
                for value in _values(parameter["name"], _resolved(parameter["schema"])):
                    async with session.get(path, params={parameter["name"]: str(value)}) as response:
                        assert response.status == 200, (parameter["name"], value, await response.text())


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    for part in (schema, *schema.get("allOf", ())):
        if "$ref" in part:
            found = DOCUMENT["components"]["schemas"][part["$ref"].rpartition("/")[2]]
            assert isinstance(found, dict)
            return found
    return schema


def _values(name: str, schema: dict[str, Any]) -> list[Any]:
    if "enum" in schema:
        return list(schema["enum"])
    if schema.get("format") == "date-time":
        return ["2026-11-24T08:00:00.000+01:00"]
    if "maximum" in schema:
        return [schema["minimum"], schema["maximum"]]
    if name == "cursor":
        return []
    return ["a", "a" * schema.get("maxLength", 64)]


async def test_the_server_serves_the_document() -> None:
    async with WebServerUnderTest().open() as session, session.get("/api/openapi.json") as response:
        assert await response.json() == DOCUMENT


def test_schemas_of_the_document_come_from_the_catalogue() -> None:
    for title in ("Reply", "GroupSummary", "PersonEntry", "Terminal", "Snapshot", "AuditRecord"):
        assert title in DOCUMENT["components"]["schemas"]
    with pytest.raises(ValueError, match="not declared"):
        Catalogue([{"title": "A", "properties": {"b": {"$ref": "B"}}}])


class _Answers:
    """A response of a test."""

    def __init__(self, status: int, content_type: str, body: bytes) -> None:
        self.status, self.content_type, self.method, self._body = status, content_type, "GET", body

    async def read(self) -> bytes:
        return self._body


@pytest.mark.parametrize(
    ("path", "status", "content_type", "body", "is_fault"),
    [
        ("/healthz", 200, "application/json", b'{"status":"ok"}', False),
        ("/healthz", 200, "application/json", b'{"status":"ok","more":1}', True),
        ("/healthz", 200, "text/plain", b"ok", True),
        ("/healthz", 418, "application/json", b'{"status":"ok"}', True),
        ("/api/terminals", 200, "application/json", b'{"items":[],"next":null,"total":0}', False),
        ("/api/terminals", 200, "application/json", b"[]", True),
        ("/api/persons/p1", 404, "application/json", b'{"outcome":"invalid","errors":[]}', True),
        ("/other", 418, "text/plain", b"", False),
    ],
)
async def test_an_invalid_response_is_a_fault(
    path: str, status: int, content_type: str, body: bytes, is_fault: bool
) -> None:
    watch = HttpContractWatch()
    answer: Any = _Answers(status, content_type, body)

    async def handler(_: aiohttp.ClientRequest) -> aiohttp.ClientResponse:
        return answer  # type: ignore[no-any-return]  # a fake

    class Request:
        method = "GET"

        class url:  # noqa: N801  aiohttp's name
            path = ""
            path_qs = ""

    request: Any = Request()
    request.url.path = path
    await watch(request, handler)
    assert bool(watch.faults) is is_fault
