"""Where a terminal connects from, also behind proxies."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_MAXIMUM_HOPS = 20
"""Proxies that are followed back; nobody has more, and a header can name thousands."""


def client_address(peer: str, forwarded_for: Iterable[str], trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the address of who connects.

    Args:
        peer: the other end of the TCP connection.
        forwarded_for: the X-Forwarded-For headers, in order.
        trusted: proxies whose word counts (`terminals.trusted_proxies`).

    Returns:
        The last address, seen from here, that is no trusted proxy; anybody could have written what is further out.
    """
    address = _parse(peer)
    if address is None:
        return peer
    hops = [hop for header in forwarded_for for hop in header.split(",")]
    for hop in reversed(hops[-_MAXIMUM_HOPS:]):
        if not any(address in network for network in trusted):
            break
        before = _parse(hop.strip())
        if before is None:
            break
        address = before
    return str(address)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, without the port that some proxies add."""
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
