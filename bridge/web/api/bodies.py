"""Reading the bodies of requests, within limits of size and time."""

import asyncio

from aiohttp import hdrs, web

from bridge.core.command_definition import decode_json
from bridge.web.errors import RequestError
from bridge.web.routes import JSON

ENCODED_CHUNK_FACTOR = 8
"""How much longer a body can be with the encoding of chunks: each byte can be a chunk of six bytes."""


async def read_json(request: web.Request, max_bytes: int, seconds: float, *, accepted: str = JSON) -> object:
    """Return the JSON of a request's body; None for an empty one.

    Args:
        request: the request.
        max_bytes: of the body.
        seconds: for sending the body.
        accepted: the content types that the route accepts, for a message.

    Raises:
        RequestError: the body is too large, too slow, incomplete, or of another type.
        InvalidCommandError: the body is not JSON.
    """
    body = await read_body(request, max_bytes, seconds)
    if not body:
        return None
    if request.content_type != JSON:
        raise RequestError(415, f"a body must be {accepted}", path=hdrs.CONTENT_TYPE)
    refuse_compressed(request)
    return decode_json(body)


async def read_body(request: web.Request, max_bytes: int, seconds: float) -> bytes:
    """Return a request's body. Raises RequestError if it is too large, too slow or incomplete."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large(max_bytes)
    except TimeoutError:
        raise too_slow(seconds) from None
    except web.RequestPayloadError:
        raise malformed() from None
    return bytes(body)


def refuse_compressed(request: web.Request) -> None:
    """Raise RequestError for a compressed body: a few bytes of it can be gigabytes."""
    if hdrs.CONTENT_ENCODING in request.headers:
        raise RequestError(415, "a body must not be compressed", path=hdrs.CONTENT_ENCODING)


def too_large(max_bytes: int) -> RequestError:
    """Return the error for a body that is too large."""
    limit = f"{max_bytes:,} bytes" if max_bytes < 100_000 else f"{max_bytes / 1e6:.1f} MB"
    return RequestError(413, f"the body is too large; at most {limit} are accepted")


def too_slow(seconds: float) -> RequestError:
    """Return the error for a body that does not arrive in time."""
    return RequestError(408, f"the body did not arrive within {seconds:.0f} s")


def malformed() -> RequestError:
    """Return the error for a body whose encoding is wrong."""
    return RequestError(400, "the body is malformed")
