"""Static files of the page: style, scripts and icons, cached by browsers until their content changes."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import hdrs, web

from bridge.web.errors import RequestError
from bridge.web.page.forms import PageRouter

_CONTENT_TYPES: Mapping[str, str] = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}

_CACHE_FOR_A_YEAR = "public, max-age=31536000, immutable"
"""The path contains a hash of the content, so a changed file has another path."""

_HASH_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    compressed: bytes
    content_type: str


class Assets:
    """The static files, loaded once, plain and compressed.

    One hash stands for all files, so that JavaScript modules can import each other by relative paths.

    Attributes:
        version: the hash of all files, a part of their path.
    """

    def __init__(self) -> None:
        self._assets: dict[str, _Asset] = {}
        digest = hashlib.sha256()
        for name, file in sorted(_walk(files("bridge.web.page").joinpath("static"), "")):
            content_type = _CONTENT_TYPES.get(name.rpartition(".")[2])
            if content_type is None:
                continue
            body = file.read_bytes()
            digest.update(f"{name} {len(body)} ".encode() + body)
            self._assets[name] = _Asset(body, gzip.compress(body, mtime=0), content_type)
        self.version = digest.hexdigest()[:_HASH_CHARACTERS]

    def path(self, name: str) -> str:
        """Return the path of a file, without a slash at the start. Raises KeyError for an unknown file."""
        if name not in self._assets:
            raise KeyError(name)
        return f"static/{self.version}/{name}"

    def add_to(self, router: PageRouter) -> None:
        """Add the route."""
        router.get("/static/{version}/{name:.+}", self._get)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            raise RequestError(404, "unknown file; reload the page")
        headers: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT_ENCODING}
        # A page of an older version may still ask for its own files. The present ones must not be cached for it.
        if request.match_info["version"] == self.version:
            headers[hdrs.CACHE_CONTROL] = _CACHE_FOR_A_YEAR
        body = asset.body
        if accepts_gzip(request):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = asset.compressed
        return web.Response(body=body, content_type=asset.content_type, charset="utf-8", headers=headers)


def accepts_gzip(request: web.Request) -> bool:
    """Return whether the client accepts a compressed response."""
    return "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry
