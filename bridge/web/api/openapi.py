"""The OpenAPI document, derived from the declared routes and the schemas that validate (docs/openapi.json)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiohttp import hdrs, web

from bridge import __version__
from bridge.core.commands import COMMAND_NAME_SCHEMA
from bridge.model.json_schema import JsonSchema
from bridge.model.names import GROUP_NAME_SCHEMA, PERSON_ID, SERIAL_NUMBER_SCHEMA
from bridge.model.schema_catalogue import Catalogue
from bridge.persons.schema import PERSON_ENTRY_SCHEMA, PERSON_SCHEMA, SINGLE_PERSON_SCHEMA
from bridge.web.api.common import REQUEST_FAILED_SCHEMA, failure
from bridge.web.api.events import SNAPSHOT_SCHEMA
from bridge.web.authentication import CSRF_HEADER, PATH_WITH_OPTIONAL_LOGIN, SAFE_METHODS
from bridge.web.errors import json_response
from bridge.web.routes import JSON, ResponseContent, Route
from bridge.web.sessions import COOKIE_NAMES

_PREFIX = "#/components/schemas/"

_PATH_PARAMETERS: Mapping[str, JsonSchema] = {
    "sn": SERIAL_NUMBER_SCHEMA,
    "name": GROUP_NAME_SCHEMA,
    "id": {
        "type": "string",
        "pattern": f"^~?{PERSON_ID.pattern}$",
        "description": "the person's id; a `~` before it does not count, so that the ids `.` and `..` can be written"
        " `~.` and `~..`",
    },
}

_OF_EVERY_ROUTE: Mapping[int, ResponseContent] = {
    400: failure("the request is invalid: a part of the path, the query, or a body where the path takes none"),
    403: failure(
        "the request comes from another website, the role of the login does not allow it, or it lacks the token of its "
        "session"
    ),
    500: failure("the bridge failed; its log has the details"),
}
_WITH_LOGIN: Mapping[int, ResponseContent] = {
    401: failure("missing or wrong login"),
    429: failure("too many wrong logins from this address; `Retry-After` says when to try again"),
    503: failure("the store cannot be read now, or too many logins are being verified"),
}
"""The responses that every route can have, and those of every route that needs a login."""

_RETRY_AFTER: Mapping[str, Any] = {
    str(hdrs.RETRY_AFTER): {
        "description": "seconds after which another attempt makes sense; a 503 because of the store has none",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {
        str(hdrs.WWW_AUTHENTICATE): {
            "description": "the challenge; browsers that show the page get none",
            "schema": {"type": "string"},
        }
    },
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
"""The headers of responses, by status."""

_SECURITY_SCHEMES: Mapping[str, Any] = {
    "basic": {"type": "http", "scheme": "basic", "description": "`web.username` and `web.password`"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "one of `web.tokens`"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE_NAMES[0],
        "description": "the session of a person who has signed in to the page; over HTTPS the cookie is named "
        + " or ".join(f"`{name}`" for name in COOKIE_NAMES[1:]),
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": "the token of the session, which a request that changes something needs; every page has it in "
        "`data-csrf` of its body",
    },
}
_WITHOUT_LOGIN: Mapping[str, Any] = {}
"""On a loopback address without a configured login, and for routes with an optional login."""
_READING = [{"basic": []}, {"bearer": []}, {"session": []}, _WITHOUT_LOGIN]
_CHANGING = [{"basic": []}, {"bearer": []}, {"session": [], "csrf": []}, _WITHOUT_LOGIN]
"""The logins that a route accepts."""

_TAGS = {
    "terminals": "terminals, presses, and terminals that wait for approval",
    "groups": "groups of terminals",
    "persons": "persons, on terminals and over all terminals",
    "log": "commands, their senders and their outcomes",
    "events": "the stream of changes",
    "monitoring": "health, readiness, metrics, and this document",
}

_DESCRIPTION = """\
Terminals, persons and doors over HTTP. docs/http.md is the description for people.

A GET route also answers HEAD. Lists are paged: pass `next` as `cursor`. No login is needed on a loopback address as \
long as none is configured. A press is carried out within `commands.deadline`, counted from the first byte of its \
request, or not at all. Objects in responses can get further keys in later versions.

An unknown path is answered 404, and another method 405 with `Allow`."""


class OpenApiRoute:
    """`GET /api/openapi.json`."""

    def __init__(self, declared: Iterable[Route]) -> None:
        self._declared = declared
        self._document: dict[str, Any] | None = None

    def routes(self) -> Iterator[Route]:
        """Return the route."""
        yield Route(
            method="GET",
            path="/api/openapi.json",
            handler=self._answer,
            summary="Return this document",
            tag="monitoring",
            responses={200: ResponseContent(description="an OpenAPI 3.1 document", schema={"type": "object"})},
        )

    async def _answer(self, _request: web.Request) -> web.StreamResponse:
        if self._document is None:
            self._document = openapi_document(self._declared)
        return json_response(self._document)


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of declared routes."""
    routes = list(routes)
    catalogue = _catalogue(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, catalogue)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Facebridge",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        # Relative to the place of this document, also behind a path prefix.
        "servers": [{"url": "..", "description": "the bridge that serves this document at /api/openapi.json"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "security": _READING,
        "paths": paths,
        "components": {
            "schemas": {title: catalogue.schema(title, _PREFIX) for title in catalogue},
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def responses_of(route: Route) -> dict[int, ResponseContent]:
    """Return all responses of a route by status, with those that every route can have."""
    common = {**_OF_EVERY_ROUTE, **({} if route.role is None else _WITH_LOGIN)}
    responses = dict(route.responses)
    for status, response in common.items():
        own = responses.get(status)
        if own is None:
            responses[status] = response
        elif own.schema != response.schema:
            assert own.schema is not None
            schemas = [*own.schema["anyOf"]] if set(own.schema) == {"anyOf"} else [own.schema]
            schema = {"anyOf": [*schemas, REQUEST_FAILED_SCHEMA]}
            responses[status] = ResponseContent(
                description=f"{own.description}; or {response.description}", schema=schema
            )
    return dict(sorted(responses.items()))


def _catalogue(routes: Iterable[Route]) -> Catalogue:
    schemas: list[JsonSchema] = [
        COMMAND_NAME_SCHEMA,
        PERSON_SCHEMA,
        SINGLE_PERSON_SCHEMA,
        PERSON_ENTRY_SCHEMA,
        SNAPSHOT_SCHEMA,
    ]
    for route in routes:
        schemas += [parameter.schema for parameter in route.query]
        schemas += [response.schema for response in responses_of(route).values() if response.schema is not None]
        if route.body is not None:
            schemas += route.body.content.values()
    return Catalogue(schemas)


def _operation(route: Route, catalogue: Catalogue) -> dict[str, Any]:
    has_optional_login = route.path == PATH_WITH_OPTIONAL_LOGIN
    needs = "No login is needed." if route.role is None else f"Needs the role `{route.role}`."
    if has_optional_login:
        needs = "No login is needed; without one the response names no address."
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "description": needs,
        "tags": [route.tag],
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, **_described(_PATH_PARAMETERS[name], catalogue)}
                for name in re.findall(r"{(\w+)}", route.path)
            ),
            *(
                {"name": one.name, "in": "query", "required": False, **_described(one.schema, catalogue)}
                for one in route.query
            ),
        ],
        "responses": {
            str(status): _response(status, response, catalogue) for status, response in responses_of(route).items()
        },
    }
    if route.method not in SAFE_METHODS:
        operation["security"] = _CHANGING
    elif route.role is None and not has_optional_login:
        operation["security"] = []
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body.is_required,
            "content": {
                content_type: {"schema": catalogue.rewritten(schema, _PREFIX)}
                for content_type, schema in route.body.content.items()
            },
        }
    return operation


def _described(schema: JsonSchema, catalogue: Catalogue) -> dict[str, Any]:
    """Return schema and description of a parameter."""
    described = dict(schema)
    description = described.pop("description", "")
    if "title" in described:
        return {"description": description, "schema": catalogue.rewritten(schema, _PREFIX)}
    return {"description": description, "schema": catalogue.rewritten(described, _PREFIX)}


def _response(status: int, response: ResponseContent, catalogue: Catalogue) -> dict[str, Any]:
    described: dict[str, Any] = {"description": response.description}
    if status in _HEADERS:
        described["headers"] = _HEADERS[status]
    if response.schema is not None:
        schema = catalogue.rewritten(response.schema, _PREFIX)
        content_type = response.content_type
        # OpenAPI describes a binary body by its content type alone.
        is_binary = content_type != JSON and schema.get("contentMediaType") == content_type
        described["content"] = {content_type: {} if is_binary else {"schema": schema}}
    return described


def _operation_id(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix("/api"))
    return route.method.lower() + "".join(word[:1].upper() + word[1:] for word in words)
