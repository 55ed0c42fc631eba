"""The login page and the logout."""

import logging
from collections.abc import Mapping

from aiohttp import hdrs, web

from bridge.web.authentication import (
    LOGIN_PATH,
    SESSION,
    USER,
    VIA_INGRESS,
    Security,
    accepts_html,
    set_session_cookie,
)
from bridge.web.errors import RequestError
from bridge.web.page.forms import PageRouter, read_form
from bridge.web.page.rendering import Renderer, is_partial, local_path, path_with_query, redirect, root_of
from bridge.web.page.translations import noop

_LOGGER = logging.getLogger(__name__)

_PAGE = LOGIN_PATH.lstrip("/")

_REASONS: Mapping[int, str] = {
    401: noop("Name or password is wrong."),
    429: noop("Too many wrong logins. Try again in half a minute."),
    503: noop("Too many logins at once. Try again."),
}
"""The message for each status of a login that failed."""


class SignInPages:
    """Pages with which people sign in and out."""

    def __init__(self, security: Security, renderer: Renderer) -> None:
        self._security = security
        self._renderer = renderer

    def add_to(self, router: PageRouter) -> None:
        """Add the routes."""
        router.get(LOGIN_PATH, self._show)
        router.post(LOGIN_PATH, self._log_in)
        router.post("/logout", self._log_out)

    def response(self, request: web.Request) -> web.Response | None:
        """Return the response for a browser that is not signed in; None for a program."""
        if not self._security.has_sessions:
            return None
        if not self._security.has_logins and accepts_html(request):
            return self._closed(request)
        if is_partial(request):
            # htmx follows this header. A page that is open says by itself that it is signed out.
            return web.Response(status=401, headers={"HX-Redirect": f"{root_of(request)}{_PAGE}"})
        if not accepts_html(request):
            return None
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            message = noop("You are signed out, so nothing was done. Sign in, and send the form again.")
            return self._renderer.page(request, "error.html", 401, heading=noop("Sign in"), message=message)
        return redirect(request, path_with_query(_PAGE, {"next": local_path(request.rel_url.raw_path_qs.lstrip("/"))}))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        destination = local_path(request.query.get("next", ""))
        if USER in request:
            return redirect(request, destination)
        if not self._security.has_logins:
            return self._closed(request)
        return self._form(request, destination, is_signed_out="out" in request.query)

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        _require_own_page(request)
        form = await read_form(request)
        destination = local_path(form.get("next", ""))
        if not self._security.has_sessions or request[VIA_INGRESS]:
            return redirect(request, destination)
        if not self._security.has_logins:
            return self._closed(request)
        name, password = form.get("name", ""), form.get("password", "")
        try:
            session, value = await self._security.log_in(request, name, password)
        except RequestError as error:
            if error.status not in _REASONS:
                raise
            # 401 would need a challenge, for which browsers show a dialog of their own.
            status = 403 if error.status == 401 else error.status
            response = self._form(request, destination, status, name=name, reason=_REASONS[error.status])
            response.headers.update({} if error.status == 401 else error.headers or {})
            return response
        _LOGGER.info("%s signed in to the page, role %s", session.account.name, session.account.role)
        response = redirect(request, destination)
        set_session_cookie(response, session, value)
        return response

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        await read_form(request)
        response = redirect(request, path_with_query(_PAGE, {"out": 1}))
        if SESSION in request:
            await self._security.log_out(request)
            set_session_cookie(response, request[SESSION], "")
        return response

    def _closed(self, request: web.Request) -> web.Response:
        """Return the page for an address without accounts: people use Home Assistant's panel."""
        return self._renderer.page(request, "closed.html", 403)

    def _form(
        self,
        request: web.Request,
        destination: str,
        status: int = 200,
        *,
        name: str = "",
        reason: str = "",
        is_signed_out: bool = False,
    ) -> web.Response:
        return self._renderer.page(
            request,
            "login.html",
            status,
            destination=destination,
            name=name,
            reason=reason,
            is_signed_out=is_signed_out,
        )


def _require_own_page(request: web.Request) -> None:
    """Check that a login comes from the login page; another website could sign a user in to an account of its own.

    There is no session yet that a CSRF token could belong to. All current browsers send one of these headers with each
    form, and every request with one of them that names another website is refused already.
    """
    if hdrs.ORIGIN not in request.headers and request.headers.get("Sec-Fetch-Site") != "same-origin":
        raise RequestError(403, noop("Sign in with the form of this page."), path=hdrs.ORIGIN)
