"""Protection against websites: cross-site requests (CSRF) and DNS rebinding."""

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.web.errors import RequestError


class SameOriginCheck:
    """Rejection of requests that a website sends from a user's browser.

    A cross-site request carries the website's name in `Origin`, or `Sec-Fetch-Site` marks it. If a website has rebound
    its DNS name to this server's address, the request carries that name in `Host`.
    """

    def __init__(self, settings: WebSettings) -> None:
        # An IP address cannot be rebound, so a server that other machines reach accepts every address as `Host`.
        self._any_address = not is_loopback(settings.host)
        self._names = {"localhost", settings.host.lower()}
        if self._any_address:
            self._names.add(socket.gethostname().lower())
        self._url_authority = None if settings.url is None else authority_of(settings.url)
        self._url_has_no_path = settings.url is not None and urlsplit(settings.url).path in ("", "/")
        if settings.url is not None:
            self._names.add(host_of(settings.url) or "")

    def check(self, request: web.Request, *, scheme: str, via_ingress: bool) -> None:
        """Check that no website can have sent a request.

        Args:
            request: the request.
            scheme: that the browser uses; a proxy may end TLS.
            via_ingress: whether Home Assistant's Supervisor passed it on. `Host` then names Home Assistant as the
                browser knows it, and TLS may end there.

        Raises:
            RequestError: a website may have sent it.
        """
        hosts = request.headers.getall(hdrs.HOST, [])
        host = host_of(f"//{hosts[0]}") if len(hosts) == 1 else None
        if host is None or not (via_ingress or self._is_own(host)):
            message = "unknown host name of this server; set web.url to the address that people use"
            raise RequestError(403, message, path=hdrs.HOST)
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not _follows_link(request):
            # "same-site" is not enough: another port of this host is another website.
            raise RequestError(403, "requests from other websites are not allowed", path="Sec-Fetch-Site")
        own = (authority_of(f"{scheme}://{hosts[0]}"), self._url_authority)
        for origin in request.headers.getall(hdrs.ORIGIN, []):
            authority = authority_of(origin)
            is_own = host_of(origin) == host if via_ingress else authority in own
            if authority is None or not is_own:
                message = "requests from other websites are not allowed; set web.url if this is the bridge's own page"
                raise RequestError(403, message, path=hdrs.ORIGIN)

    def is_at_root(self, request: web.Request) -> bool:
        """Return whether the browser certainly sees the page without a path prefix: `web.url` is its address."""
        host, origin = request.headers.get(hdrs.HOST, ""), request.headers.get(hdrs.ORIGIN, "")
        seen = (authority_of(origin), authority_of(f"https://{host}"))
        return self._url_has_no_path and self._url_authority in seen

    def _is_own(self, host: str) -> bool:
        return host in self._names or is_loopback(host) or (self._any_address and _is_address(host))


def _follows_link(request: web.Request) -> bool:
    """Return whether a user follows a link to the page. A navigation changes nothing, and the website cannot read it.

    A frame is no link: its destination is `iframe`.
    """
    return (
        request.method == hdrs.METH_GET
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )


def host_of(url: str) -> str | None:
    """Return the host of a URL; None if the URL is malformed, has no host or names a user."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.username is None else None


def authority_of(url: str) -> str | None:
    """Return `host:port` of a URL; None if it has no host, as the origin `null`."""
    host = host_of(url)
    if host is None:
        return None
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine only."""
    return host.lower() == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
