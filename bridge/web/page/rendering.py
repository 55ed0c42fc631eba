"""Templates, and what they know of a request: language, theme, user and the relative path to the page's root."""

import gzip
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from gettext import NullTranslations
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from aiohttp import hdrs, web
from markupsafe import Markup

from bridge import __version__
from bridge.core.clock import Clock
from bridge.model.messages import translated
from bridge.persons.timestamps import local_time
from bridge.web.api.common import path_of_person
from bridge.web.authentication import CSRF_FIELD, CSRF_HEADER, CSRF_TOKEN, SESSION, USER, VIA_INGRESS, User
from bridge.web.page.assets import Assets, accepts_gzip
from bridge.web.page.recognition import TextRecognizer
from bridge.web.page.translations import LANGUAGES, Catalog, choose_language, load_catalogs

THEMES = ("auto", "light", "dark")

LANGUAGE_COOKIE, THEME_COOKIE = "facebridge_language", "facebridge_theme"

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_FRAMED = ("frame-ancestors 'none'", "frame-ancestors 'self'")

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    # With no-referrer, browsers send `Origin: null` with forms, and the check of the origin refuses them.
    "Referrer-Policy": "same-origin",
    "Vary": "Accept, Accept-Encoding, Accept-Language, Cookie, HX-Request",
}

_MIN_COMPRESSED_BYTES = 1_000
_COMPRESSION_LEVEL = 5
"""A list of 50 terminals takes half a millisecond, and shrinks to a tenth."""

_ETAG_CHARACTERS = 16
"""64 bits of a hash."""

_POST_FORM = re.compile(r'<form\b[^>]*\bmethod="post"[^>]*>')
"""The start of a form that changes something. Templates escape `>` in attributes."""

CLOCK_HEADER = "X-Page-Clock"
"""The bridge's clock (`Clock.boottime`) in milliseconds."""

_ROOT_HEADER = "X-Page-Root"
"""Scripts send the root of their page in it; the browser's address can have a prefix that the bridge does not know."""

_ROOT = re.compile(r"\./|(?:\.\./){1,9}")

_LOCAL_PATH = re.compile(r"(?:[A-Za-z0-9_.@-][A-Za-z0-9_.@/-]*)?(?:\?[A-Za-z0-9_.@~%&=+-]*)?")
"""A path below the page's root, perhaps with a query. It cannot lead to another website."""


@dataclass(frozen=True)
class LivePart:
    """The rendered part of a page that scripts keep current.

    Attributes:
        text: its HTML. Forms have no CSRF tokens yet.
    """

    text: str

    @cached_property
    def etag(self) -> str:
        """The ETag: a script that shows the same part already gets 304."""
        return f'"{hashlib.sha256(self.text.encode()).hexdigest()[:_ETAG_CHARACTERS]}"'

    @cached_property
    def body(self) -> bytes:
        """The body of a response with this part alone."""
        # Users share it, so its forms have empty tokens; a script fills them in.
        return _with_tokens(self.text, "").encode()

    @cached_property
    def compressed(self) -> bytes:
        """The compressed body."""
        return gzip.compress(self.body, _COMPRESSION_LEVEL, mtime=0)


class Renderer:
    """Renders templates for requests."""

    def __init__(self, assets: Assets, navigation: Sequence[tuple[str, str, str]], clock: Clock) -> None:
        """Build the renderer.

        Args:
            assets: the static files.
            navigation: name, path and label of each section.
            clock: every response carries its time; with it scripts date presses.
        """
        self._clock = clock
        self._assets = assets
        self._navigation = navigation
        catalogs = load_catalogs()
        self._environments = {language: _environment(catalogs.get(language)) for language in LANGUAGES}

    def page(self, request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
        """Return a rendered template as a response.

        Args:
            request: the request.
            template: the file's name in `templates`.
            status: of the response.
            values: variables of the template.
        """
        text = self._render(request, template, values)
        if is_partial(request):
            text = _with_tokens(text, "")
        elif CSRF_TOKEN in request:
            # Added here, so that no form lacks it.
            text = _with_tokens(text, request[CSRF_TOKEN])
        body = text.encode()
        compressed = gzip.compress(body, _COMPRESSION_LEVEL, mtime=0) if _is_compressed(request, body) else None
        return self._response(request, body, compressed, status)

    def live_page(self, request: web.Request, name: str, **values: Any) -> web.Response:
        """Return a page with a part that scripts keep current; to these scripts, only the part.

        Args:
            request: the request.
            name: of the page's template. The part's template has the same name with `_` before it.
            values: variables of both templates.
        """
        return self.page_around(request, name, self.live_part(request, name, **values), **values)

    def live_part(self, request: web.Request, name: str, **values: Any) -> LivePart:
        """Return the part of a page that scripts keep current."""
        return LivePart(self._render(request, f"_{name}", values))

    def page_around(self, request: web.Request, name: str, part: LivePart, **values: Any) -> web.Response:
        """Return the page around a rendered part; to the script that keeps it current, the part if it has changed."""
        if not is_partial(request):
            return self.page(request, name, part=part.text, part_etag=part.etag, **values)
        # A proxy that compresses makes the ETag a weak one.
        if request.headers.get(hdrs.IF_NONE_MATCH, "").removeprefix("W/") == part.etag:
            response = web.Response(status=304, headers=self._headers(request))
        else:
            compressed = part.compressed if _is_compressed(request, part.body) else None
            response = self._response(request, part.body, compressed, 200)
        response.headers[hdrs.ETAG] = part.etag
        return response

    def _render(self, request: web.Request, template: str, values: Mapping[str, Any]) -> str:
        language = language_of(request)
        root = root_of(request)
        user: User | None = request.get(USER)
        context = {
            "root": root,
            "language": language,
            "languages": LANGUAGES,
            "theme": theme_of(request),
            "themes": THEMES,
            "user": user,
            "is_admin": user is not None and user.role == "admin",
            "is_session": SESSION in request,
            "csrf_token": request.get(CSRF_TOKEN, ""),
            "here": request.rel_url.raw_path.lstrip("/"),
            "here_and_query": request.rel_url.raw_path_qs.lstrip("/"),
            "navigation": self._navigation,
            "version": __version__,
            "url": lambda path="", **query: root + path_with_query(path, query),
            "asset": lambda name: root + self._assets.path(name),
            **values,
        }
        return self._environments[language].get_template(template).render(context)

    def nothing(self, request: web.Request) -> web.Response:
        """Return an empty response, which shows that the bridge answers, and names the session's CSRF token."""
        headers = {CLOCK_HEADER: self._time(), CSRF_HEADER: request.get(CSRF_TOKEN, "")}
        return web.Response(status=204, headers=headers)

    def _response(self, request: web.Request, body: bytes, compressed: bytes | None, status: int) -> web.Response:
        """Return HTML as a response, compressed if `compressed` is given."""
        headers = self._headers(request)
        if compressed is not None:
            body = compressed
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=headers)

    def _headers(self, request: web.Request) -> dict[str, str]:
        headers = {**_HEADERS, CLOCK_HEADER: self._time()}
        if request.get(VIA_INGRESS):
            # Home Assistant shows the page in a frame, under its own address.
            headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY.replace(*_FRAMED)
        return headers

    def _time(self) -> str:
        return str(int(self._clock.boottime() * 1000))


def _environment(catalog: Catalog | None) -> jinja2.Environment:
    """Return the templates in a language; None: English."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(str(files("bridge.web.page").joinpath("templates")))),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    # Methods of the extension, which jinja2's types do not show.
    translations = catalog or NullTranslations()
    environment.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
    environment.filters["localized"] = str if catalog is None else _localized_by(catalog)
    environment.filters["time"] = _time
    environment.filters["person_segment"] = path_of_person
    return environment


def _localized_by(catalog: Catalog) -> Callable[[str], str]:
    """Return a filter that translates a text of the bridge; a text without a translation is marked as English."""
    recognizer = TextRecognizer(catalog)

    def localized(text: str) -> str:
        found = translated(text, catalog.gettext)
        if found == str(text):
            found = recognizer.translate(str(text)) or ""
        return str(found) or Markup('<span lang="en">{}</span>').format(str(text))

    return localized


def redirect(request: web.Request, path: str) -> web.Response:
    """Return a redirect to a path below the page's root. It is relative, so it works behind any prefix."""
    return web.Response(status=303, headers={**_HEADERS, hdrs.LOCATION: root_of(request) + path})


def root_of(request: web.Request) -> str:
    """Return the relative path to the page's root: `./`, `../` and so on.

    It is relative to the request's path. In a part of a page it is relative to the page that the part is put into.
    """
    of_document = request.headers.get(_ROOT_HEADER, "")
    if is_partial(request) and _ROOT.fullmatch(of_document):
        return of_document
    depth = request.rel_url.raw_path.count("/") - 1
    return "../" * depth or "./"


def is_partial(request: web.Request) -> bool:
    """Return whether a script asks for a part of the page that it puts in place."""
    return request.headers.get("HX-Request") == "true"


def language_of(request: web.Request) -> str:
    """Return the language of the response to a request."""
    return choose_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))


def theme_of(request: web.Request) -> str:
    """Return the theme that the user has chosen, `auto` by default."""
    theme = request.cookies.get(THEME_COOKIE, "auto")
    return theme if theme in THEMES else "auto"


def local_path(path: str) -> str:
    """Return a path below the page's root, or the root for anything else."""
    return path if _LOCAL_PATH.fullmatch(path) and ".." not in path and "//" not in path else ""


def path_with_query(path: str, query: Mapping[str, Any]) -> str:
    """Return a path with the values of a query that are not empty."""
    pairs = [f"{quote(name)}={quote(str(value), safe='')}" for name, value in query.items() if value not in (None, "")]
    return path + ("?" + "&".join(pairs) if pairs else "")


def _with_tokens(html: str, token: str) -> str:
    """Return HTML with a CSRF token in every form that changes something."""
    return _POST_FORM.sub(rf'\g<0><input type="hidden" name="{CSRF_FIELD}" value="{token}">', html)


def _is_compressed(request: web.Request, body: bytes) -> bool:
    return len(body) >= _MIN_COMPRESSED_BYTES and accepts_gzip(request)


def _time(at: datetime | None) -> str:
    """Return a time element: the server's local time, which a script turns into a relative time."""
    if at is None:
        return "–"
    local = local_time(at.timestamp())
    shown = local.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{}</time>').format(local.isoformat(timespec="seconds"), shown)
