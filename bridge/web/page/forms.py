"""HTML forms: reading them with limits."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from bridge.model.origin import Origin
from bridge.web.authentication import USER, require_form_token
from bridge.web.errors import RequestError
from bridge.web.routes import Handler

MAX_FORM_BYTES = 16_384
"""A form with every field of a person, without the photo, takes a few kilobytes."""

_MAX_FIELDS = 200
_BODY_SECONDS = 10.0


class PageRouter:
    """Adds the page's routes to a router, and knows which of them read a body."""

    def __init__(self, router: web.UrlDispatcher) -> None:
        self._router = router
        self._max_bytes: dict[Handler, int] = {}

    def get(self, path: str, handler: Handler) -> None:
        """Add a route that reads no body."""
        self._router.add_get(path, handler)

    def post(self, path: str, handler: Handler, max_bytes: int = 8 * MAX_FORM_BYTES) -> None:
        """Add a route that reads a body.

        Args:
            path: with variable parts as `{name}`.
            handler: answers a request.
            max_bytes: bytes that are parsed at most. With the encoding of chunks, each byte can take six.
        """
        self._max_bytes[handler] = max_bytes
        self._router.add_post(path, handler)

    def max_body_bytes(self, request: web.Request) -> int | None:
        """Return the bytes that are parsed at most of a request's body; None if its route takes no body."""
        return self._max_bytes.get(request.match_info.handler)


def origin_of(request: web.Request) -> Origin:
    """Return the origin of the commands that a request carries."""
    user = request.get(USER)
    return Origin(source=f"page: {request.method} {request.path}", user=None if user is None else user.name)


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form; of a repeated field, the values joined by commas.

    Raises:
        RequestError: the body is no form, is too large or too slow.
    """
    fields: dict[str, str] = {}
    async with _reading(request, "application/x-www-form-urlencoded", _BODY_SECONDS):
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise _too_large(f"{MAX_FORM_BYTES} bytes")
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
        for name, value in pairs:
            fields[name] = f"{fields[name]},{value}" if name in fields else value
    require_form_token(request, fields)
    return fields


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of a form with files.

    Attributes:
        max_file_bytes: of all files together.
        seconds: for sending the form.
    """

    max_file_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Upload:
    """A form with files.

    Attributes:
        fields: the fields that are text.
        files: the chosen files by field: name and content.
    """

    fields: Mapping[str, str]
    files: Mapping[str, tuple[str, bytes]]


async def read_upload(request: web.Request, limits: UploadLimits) -> Upload:
    """Return the fields and files of a form of multipart/form-data. Raises RequestError."""
    fields: dict[str, str] = {}
    files: dict[str, tuple[str, bytes]] = {}
    text_left, file_left = MAX_FORM_BYTES, limits.max_file_bytes
    async with _reading(request, "multipart/form-data", limits.seconds):
        parts = await request.multipart()
        while (part := await parts.next()) is not None:
            if not isinstance(part, BodyPartReader) or part.name is None or len(fields) + len(files) >= _MAX_FIELDS:
                raise ValueError
            is_file = part.filename is not None
            content = bytearray()
            while chunk := await part.read_chunk():
                content += chunk
                if len(content) > (file_left if is_file else text_left):
                    raise _too_large(f"{limits.max_file_bytes / 1e6:.1f} MB" if is_file else f"{MAX_FORM_BYTES} bytes")
            if is_file:
                file_left -= len(content)
                if content:
                    files[part.name] = (part.filename or "", bytes(content))
            else:
                text_left -= len(content)
                fields[part.name] = content.decode()
    require_form_token(request, fields)
    return Upload(fields, files)


@asynccontextmanager
async def _reading(request: web.Request, content_type: str, seconds: float) -> AsyncIterator[None]:
    """Check a form's type, limit the time, and turn what goes wrong into RequestError."""
    if request.content_type != content_type:
        raise RequestError(415, f"a form must be {content_type}", path=hdrs.CONTENT_TYPE)
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RequestError(408, f"the form did not arrive within {seconds:.0f} s: send it again") from None
    except (web.RequestPayloadError, HttpProcessingError, ValueError, RuntimeError, AssertionError):
        # aiohttp's reader raises the last four for parts whose headers, boundaries or encodings are wrong.
        raise RequestError(400, "the form is malformed") from None


def _too_large(limit: str) -> RequestError:
    return RequestError(413, f"the form is too large: at most {limit} are accepted")
