"""Declared routes: what the router needs, and what the OpenAPI document says about each (docs/openapi.json)."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from bridge.model.faults import InvalidError, unknown_key
from bridge.model.json_schema import JsonSchema
from bridge.web.authentication import require_role
from bridge.web.errors import RequestError
from bridge.web.logins import Role

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JSON = "application/json"

Tag = Literal["terminals", "groups", "persons", "log", "events", "monitoring"]
"""The chapter of the OpenAPI document that a route is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParameter:
    """A parameter of the URL's query; each is optional.

    Attributes:
        name: the name.
        schema: of the parsed value, with a description.
        parse: returns the value of a text, or raises InvalidError.
        default: the value if it is missing.
    """

    name: str
    schema: JsonSchema
    parse: Callable[[str], object]
    default: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBody:
    """The body that a route reads.

    Attributes:
        content: the schema of each accepted content type.
        max_bytes: bytes that are parsed at most, with the encoding of chunks.
        is_required: whether an empty body is refused.
    """

    content: Mapping[str, JsonSchema]
    max_bytes: int
    is_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseContent:
    """A response of a route.

    Attributes:
        description: when it is sent.
        schema: of its body; None for an empty body.
        content_type: of its body.
    """

    description: str
    schema: JsonSchema | None
    content_type: str = JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route.

    Attributes:
        method: in upper case. A route for GET also answers HEAD.
        path: with variable parts as `{name}`.
        handler: answers a request.
        summary: what it does, in one sentence without a full stop.
        tag: its chapter in the OpenAPI document.
        responses: by status, without those that every route can have (`bridge.web.api.openapi`).
        role: the role that a user needs; None: no login is needed.
        query: the accepted parameters of the query. Others are refused.
        body: the body it reads; None: a request with a body is refused.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    summary: str
    tag: Tag
    responses: Mapping[int, ResponseContent]
    role: Role | None = "operator"
    query: tuple[QueryParameter, ...] = ()
    body: RequestBody | None = None


QUERY: web.RequestKey[Mapping[str, Any]] = web.RequestKey("query", Mapping)
"""The parsed parameters of the query; set before a declared route's handler runs."""


@dataclass(slots=True)
class RouteTable:
    """The declared routes of a server."""

    _routes: list[Route] = field(default_factory=list)
    _by_path: dict[tuple[str, str], Route] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def declare(self, routes: Iterable[Route]) -> None:
        """Add routes."""
        for route in routes:
            self._routes.append(route)
            self._by_path[route.path, route.method] = route

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the handlers of all routes."""
        for route in self._routes:
            if route.method == "GET":
                router.add_get(route.path, route.handler)
            else:
                router.add_route(route.method, route.path, route.handler)

    def admit(self, request: web.Request) -> Route | None:
        """Check role and query of a request for a declared route, and set its `QUERY`.

        Returns:
            The route; None for a path that is not declared.

        Raises:
            RequestError: the user lacks the role, or the query is invalid.
        """
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        route = None if resource is None else self._by_path.get((resource.canonical, method))
        if route is not None:
            if route.role is not None:
                require_role(request, route.role)
            request[QUERY] = _read_query(request, route.query)
        return route


def _read_query(request: web.Request, parameters: tuple[QueryParameter, ...]) -> Mapping[str, Any]:
    """Return the value of each parameter. Raises RequestError."""
    given = request.query
    known = {one.name: one for one in parameters}
    for name in given:
        if name not in known:
            message = unknown_key(name, known) if known else "this path takes no query"
            raise RequestError(400, message, path="query")
        if len(given.getall(name)) > 1:
            raise RequestError(400, "is given twice", path=name)
    values: dict[str, Any] = {}
    for name, parameter in known.items():
        try:
            values[name] = parameter.parse(given[name]) if name in given else parameter.default
        except InvalidError as error:
            raise RequestError(400, error.faults[0].message, path=name) from None
    return values
