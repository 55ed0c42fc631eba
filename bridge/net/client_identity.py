"""Identity of an HTTP client: its Basic credentials, its address and its scheme, also behind proxies."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_MAX_HOPS = 20
"""Proxies that are followed back. Real set-ups have a few; a forged header can name thousands."""

_REMEMBERED_ADDRESSES = 1024
"""Parsing an address takes 3 µs, and a handshake needs it four times."""

_MAX_ADDRESS_CHARACTERS = 100
"""An IPv6 address with zone and port has some 70 characters; a longer text is no address, and is not remembered."""


def read_basic_credentials(header: str) -> tuple[str, str] | None:
    """Return user name and password of an `Authorization: Basic` header (RFC 7617); None for any other header.

    Bytes that are not UTF-8 are kept as surrogate escapes, so that they compare unequal instead of raising.
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode(errors="surrogateescape")
    except (binascii.Error, ValueError):
        return None
    username, colon, password = text.partition(":")
    return (username, password) if colon else None


def client_address(peer: str, forwarded_for: Iterable[str], trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the address of the client.

    Args:
        peer: the other end of the TCP connection.
        forwarded_for: the X-Forwarded-For headers, in order.
        trusted: the proxies that may set X-Forwarded-For (`terminals.trusted_proxies`, `web.trusted_proxies`).

    Returns:
        The last address, seen from this server, that is no trusted proxy. Addresses further out can be forged.
    """
    address = _parse(peer)
    if address is None:
        return peer
    hops = [hop for header in forwarded_for for hop in header.split(",")]
    for hop in reversed(hops[-_MAX_HOPS:]):
        if not any(address in network for network in trusted):
            break
        before = _parse(hop.strip())
        if before is None:
            break
        address = before
    return str(address)


def client_scheme(
    peer: str, scheme: str, forwarded_proto: Iterable[str], trusted: Sequence[IPv4Network | IPv6Network]
) -> str:
    """Return the scheme that the client uses: `https` also if a trusted proxy ends TLS.

    Args:
        peer: the other end of the TCP connection.
        scheme: of this connection.
        forwarded_proto: the X-Forwarded-Proto headers; the proxy that is nearest to the client names its scheme first.
        trusted: the proxies that may set them.
    """
    address = _parse(peer)
    if address is None or not any(address in network for network in trusted):
        return scheme
    first = next((one for header in forwarded_proto for one in header.split(",")), "").strip().lower()
    return first if first in ("http", "https") else scheme


@lru_cache(maxsize=_REMEMBERED_ADDRESSES)
def throttled_address(remote: str | None) -> str:
    """Return the address that failed logins are counted for.

    One IPv6 host can use every address of its /64 network, so the whole network counts as one.
    """
    address = _parse(remote or "")
    if address is None:
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False))
    return str(address)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a text names, without the port or zone that some proxies add."""
    return _parse_short(text) if len(text) <= _MAX_ADDRESS_CHARACTERS else None


@lru_cache(maxsize=_REMEMBERED_ADDRESSES)
def _parse_short(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
