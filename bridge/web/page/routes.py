"""The page's routes and its error pages."""

import asyncio
from collections.abc import Mapping

from aiohttp import hdrs, web

from bridge.core.clock import Clock
from bridge.web.authentication import CSRF_HEADER, USER, Security, accepts_html
from bridge.web.context import BridgeStatus, WebServices
from bridge.web.errors import RequestError
from bridge.web.page.assets import Assets
from bridge.web.page.buttons import Buttons
from bridge.web.page.context import PageServices
from bridge.web.page.editing import PersonEditing
from bridge.web.page.forms import PageRouter, read_form
from bridge.web.page.health import HealthPages
from bridge.web.page.import_jobs import ImportJobs
from bridge.web.page.importing import ImportPages
from bridge.web.page.log import LogPages
from bridge.web.page.pending import PendingPages
from bridge.web.page.persons import PersonPages
from bridge.web.page.rendering import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Renderer, local_path, redirect
from bridge.web.page.signing_in import SignInPages
from bridge.web.page.terminals import TerminalPages
from bridge.web.page.translations import LANGUAGES, noop
from bridge.web.page.upload_folder import UploadFolder

_NOT_PAGES = ("/api/", "/healthz", "/readyz", "/metrics")
"""Paths for programs: their errors are JSON for everyone."""

_COOKIE_SECONDS = 365 * 24 * 3600

NAVIGATION = (
    ("terminals", "", noop("Terminals")),
    ("persons", "persons", noop("Persons")),
    ("log", "log", noop("Log")),
    ("health", "health", noop("Health")),
)
"""Name, path and label of each section."""

_HEADINGS: Mapping[int, str] = {
    400: noop("This request is not valid"),
    401: noop("Sign in"),
    403: noop("Not allowed"),
    404: noop("Not found"),
    429: noop("Too many wrong logins"),
    503: noop("Not possible now"),
}
_WRONG_TOKEN = noop("The page is from an earlier session. Load it again.")
_OTHER_HEADING = noop("This did not work")


class PageRoutes:
    """All routes of the page."""

    def __init__(
        self,
        web_services: WebServices,
        services: PageServices,
        status: BridgeStatus,
        clock: Clock,
        router: web.UrlDispatcher,
        security: Security,
    ) -> None:
        """Build the page and add its routes.

        Args:
            web_services: the services that the API uses too.
            services: the page's own services.
            status: the state of the bridge's other parts.
            clock: dates presses.
            router: gets the routes.
            security: logs people in and out.
        """
        self._assets = Assets()
        self._renderer = Renderer(self._assets, NAVIGATION, clock)
        self._buttons = Buttons(clock)
        self._router = PageRouter(router)
        self._router.get("/live", self._live)
        self._router.post("/preferences", self._set_preferences)
        self._assets.add_to(self._router)
        self._sign_in = SignInPages(security, self._renderer)
        self._sign_in.add_to(self._router)
        TerminalPages(services, self._renderer, self._buttons).add_to(self._router)
        PendingPages(services, self._renderer).add_to(self._router)
        PersonPages(services, self._renderer).add_to(self._router)
        PersonEditing(services, self._renderer).add_to(self._router)
        self._imports = ImportJobs(services.open_import_tools)
        self._uploads = UploadFolder(services.spool_folder)
        ImportPages(services, self._renderer, self._imports, self._uploads).add_to(self._router)
        LogPages(web_services, self._renderer).add_to(self._router)
        self._health = HealthPages(services.find_problems, status, self._renderer, clock)
        self._health.add_to(self._router)

    def max_body_bytes(self, request: web.Request) -> int | None:
        """Return the size of the largest body that a route reads; None if it takes no body."""
        return self._router.max_body_bytes(request)

    async def start(self) -> None:
        """Delete uploaded files that a bridge left when it was killed."""
        await asyncio.to_thread(self._uploads.start)

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more presses, and cancel those that still run after `grace_seconds`."""
        await self._health.stop()
        await self._imports.stop()
        await self._buttons.stop(grace_seconds)
        await asyncio.to_thread(self._uploads.stop)

    def error(self, request: web.Request, error: RequestError) -> web.Response | None:
        """Return the page for an error; None if the client is a program, which reads JSON."""
        if error.status == 401:
            return self._sign_in.response(request)
        if request.path.startswith(_NOT_PAGES) or not accepts_html(request):
            return None
        message = _WRONG_TOKEN if error.path == CSRF_HEADER else error.message
        heading = _HEADINGS.get(error.status, _OTHER_HEADING)
        allow_back = request.method == hdrs.METH_GET and USER in request
        response = self._renderer.page(
            request, "error.html", error.status, heading=heading, message=message, allow_back=allow_back
        )
        response.headers.update(error.headers or {})
        return response

    async def _live(self, request: web.Request) -> web.StreamResponse:
        return self._renderer.nothing(request)

    async def _set_preferences(self, request: web.Request) -> web.StreamResponse:
        form = await read_form(request)
        response = redirect(request, local_path(form.get("back", "")))
        for name, value, allowed in (
            (LANGUAGE_COOKIE, form.get("language"), tuple(LANGUAGES)),
            (THEME_COOKIE, form.get("theme"), THEMES),
        ):
            if value in allowed:
                # Without a path, the cookie holds for this path's folder: the page's root, behind any prefix.
                cookie = f"{name}={value}; Max-Age={_COOKIE_SECONDS}; HttpOnly; SameSite=Lax"
                response.headers.add(hdrs.SET_COOKIE, cookie)
        return response
