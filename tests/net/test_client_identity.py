"""Credentials and addresses of HTTP clients."""

import base64
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.net.client_identity import client_address, client_scheme, read_basic_credentials, throttled_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("fd00::1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["203.0.113.9:80"], "203.0.113.9"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, <script>"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [", ".join(["10.0.0.2"] * 5000)], "10.0.0.2"),
    ],
)
def test_only_trusted_proxies_name_the_client(peer: str, headers: list[str], address: str) -> None:
    assert client_address(peer, headers, PROXIES) == address


@given(st.lists(st.text(max_size=60), max_size=4))
def test_any_header_gives_an_address(headers: list[str]) -> None:
    ip_address(client_address("10.0.0.1", headers, PROXIES))
    assert client_address("192.0.2.7", headers, PROXIES) == "192.0.2.7"


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
    ],
)
def test_a_host_cannot_change_the_address_that_it_is_throttled_by(remote: str | None, counted: str) -> None:
    assert throttled_address(remote) == counted


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        ("Basic ZGV2OjEyMw==", ("dev", "123")),
        ("basic  ZGV2OjEyMw== ", ("dev", "123")),
        ("Basic " + base64.b64encode("admin:p:ö:".encode()).decode(), ("admin", "p:ö:")),
        ("Basic " + base64.b64encode(b"\xff:\xfe").decode(), ("\udcff", "\udcfe")),
        ("Basic Og==", ("", "")),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic ä", None),
        ("Basic ZGV2", None),
        ("Bearer ZGV2OjEyMw==", None),
        ("", None),
    ],
)
def test_basic_credentials(header: str, credentials: tuple[str, str] | None) -> None:
    assert read_basic_credentials(header) == credentials


@pytest.mark.parametrize(
    ("peer", "headers", "scheme"),
    [
        ("10.0.0.1", ["https"], "https"),
        ("10.0.0.1", [" HTTPS , http"], "https"),
        ("10.0.0.1", ["http, https"], "http"),
        ("10.0.0.1", [], "http"),
        ("10.0.0.1", ["", "https"], "http"),
        ("10.0.0.1", ["wss"], "http"),
        ("192.0.2.7", ["https"], "http"),
        ("", ["https"], "http"),
    ],
)
def test_only_a_trusted_proxy_names_the_scheme(peer: str, headers: list[str], scheme: str) -> None:
    assert client_scheme(peer, "http", headers, PROXIES) == scheme
