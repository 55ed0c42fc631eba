"""Logins over HTTP: authentication, roles, and throttling of guesses."""

import asyncio
import base64
import logging
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from argon2 import PasswordHasher as Argon2

from bridge.config.settings import TokenSettings, WebSettings
from bridge.model.audit import AuditRecord
from bridge.model.events import CommandReplied
from bridge.model.secret import Secret
from bridge.net.passwords import PasswordVerifier
from bridge.web.errors import RequestError
from bridge.web.logins import Logins
from tests.support.core import ManualClock, collect
from tests.support.waiting import TIMEOUT_SECONDS
from tests.support.web import WebServerUnderTest

ADMIN = aiohttp.encode_basic_auth("admin", "p")


@pytest.fixture(scope="module")
def hashed() -> str:
    """A hash that is verified in less than a millisecond, also on a busy machine."""
    return Argon2(time_cost=1, memory_cost=8, parallelism=1).hash("a-token")


def with_tokens(**settings: Any) -> WebServerUnderTest:
    tokens = {
        "robot": TokenSettings(hash=Secret("robots-token"), role="operator"),
        "boss": TokenSettings(hash=Secret("boss-token"), role="admin"),
    }
    return WebServerUnderTest(username="admin", password=Secret("p"), tokens=tokens, **settings)


async def status_with(
    session: aiohttp.ClientSession, authorization: str | None, path: str = "/api/terminals", method: str = "GET"
) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with session.request(method, path, headers=headers) as response:
        return response.status


async def test_loopback_without_a_configured_login_needs_none() -> None:
    async with WebServerUnderTest().open() as session:
        assert await status_with(session, None) == 200
        assert await status_with(session, "Bearer whatever") == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Basic",
        "Basic !",
        "Basic " + base64.b64encode(b"admin").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Digest p",
        ADMIN + "x",
        aiohttp.encode_basic_auth("admin", ""),
        aiohttp.encode_basic_auth("admin", "q"),
        aiohttp.encode_basic_auth("x", "p"),
        aiohttp.encode_basic_auth("", ""),
    ],
)
async def test_a_configured_login_is_needed_for_everything_but_health(authorization: str | None) -> None:
    site = with_tokens()
    async with site.open() as session:
        for method, path in (
            ("GET", "/api/terminals"),
            ("GET", "/metrics"),
            ("POST", "/api/terminals/T1/open"),
            ("GET", "/nothing"),
            ("OPTIONS", "/api/terminals"),
        ):
            assert await status_with(session, authorization, path, method) == 401, path
        assert await status_with(session, authorization, "/healthz") == 200
        assert await status_with(session, authorization, "/readyz") == 200
        async with session.get("/api/terminals") as response:
            assert response.headers["WWW-Authenticate"] == 'Basic realm="Facebridge", charset="UTF-8"'
            assert (await response.json())["errors"][0]["message"] == "a login is needed"
    assert site.connection.frames == []


@pytest.mark.parametrize("authorization", [ADMIN, ADMIN.replace("Basic", "basic"), "Bearer boss-token"])
async def test_a_right_login_is_accepted(authorization: str) -> None:
    async with with_tokens().open() as session:
        assert await status_with(session, authorization) == 200
        assert await status_with(session, authorization, "/api/terminals/T1/reboot", "POST") == 200


async def test_a_password_may_contain_colons_and_any_letter() -> None:
    async with WebServerUnderTest(username="admin", password=Secret("p:ö:")).open() as session:
        right = "Basic " + base64.b64encode("admin:p:ö:".encode()).decode()
        assert await status_with(session, right) == 200


async def test_hashes_are_verified_once(hashed: str) -> None:
    tokens = {"robot": TokenSettings(hash=Secret(hashed), role="operator")}
    site = WebServerUnderTest(username="admin", password=Secret(hashed), tokens=tokens)
    async with site.open() as session:
        for _ in range(3):
            assert await status_with(session, "Bearer a-token") == 200
            assert await status_with(session, aiohttp.encode_basic_auth("admin", "a-token")) == 200
            assert await status_with(session, "Bearer another") == 401
    assert site.verifier.statistics().hashed == 2


async def test_tokens_work_without_a_user() -> None:
    tokens = {"robot": TokenSettings(hash=Secret("robots-token"), role="operator")}
    async with WebServerUnderTest(tokens=tokens).open() as session:
        assert await status_with(session, "Bearer robots-token") == 200
        assert await status_with(session, None) == 401
        assert await status_with(session, aiohttp.encode_basic_auth("robot", "robots-token")) == 401


async def test_an_operator_may_only_read_and_open() -> None:
    site = with_tokens()
    events = collect(site.events, CommandReplied)
    async with site.open() as session:
        for method, path, status in (
            ("GET", "/api/terminals", 200),
            ("GET", "/metrics", 200),
            ("POST", "/api/terminals/T1/open", 200),
            ("POST", "/api/groups/lobby/open", 409),
            ("POST", "/api/terminals/T1/reboot", 403),
            ("POST", "/api/groups/lobby/reboot", 403),
        ):
            assert await status_with(session, "Bearer robots-token", path, method) == status, path
        headers = {"Authorization": "Bearer robots-token"}
        async with session.post("/api/terminals/T1/reboot", headers=headers) as response:
            assert (await response.json())["errors"][0][
                "message"
            ] == "needs the role 'admin'; this login has the role 'operator'"
    assert site.connection.commands == ["OpenRequest", "OpenRequest"]
    assert {event.origin.user for event in events if isinstance(event, CommandReplied)} == {"robot"}


async def test_a_server_for_other_machines_without_a_login_rejects_every_request() -> None:
    async with WebServerUnderTest(host="0.0.0.0").open() as session:
        assert await status_with(session, None) == 401
        assert await status_with(session, ADMIN) == 401


async def test_guesses_are_throttled_and_lock_out_no_right_login() -> None:
    clock = ManualClock()
    site = with_tokens(clock=clock)
    async with site.open() as session:
        statuses = [await status_with(session, aiohttp.encode_basic_auth("admin", f"{n}")) for n in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        assert await status_with(session, ADMIN) == 200
        assert await status_with(session, "Bearer robots-token", "/api/terminals/T1/open", "POST") == 200
        assert await status_with(session, None) == 401
        assert await status_with(session, None, "/healthz") == 200
        async with session.get("/api/terminals", headers={"Authorization": "Bearer x"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "30")
        clock.seconds += 30
        assert await status_with(session, aiohttp.encode_basic_auth("admin", "13")) == 401
        assert await status_with(session, aiohttp.encode_basic_auth("admin", "14")) == 429, "one guess, not ten"


async def test_a_blocked_address_can_use_a_hashed_login_that_was_right_before(hashed: str) -> None:
    tokens = {"robot": TokenSettings(hash=Secret(hashed), role="operator")}
    site = WebServerUnderTest(username="admin", password=Secret(hashed), tokens=tokens)
    async with site.open() as session:
        assert await status_with(session, "Bearer a-token") == 200
        statuses = [await status_with(session, f"Bearer {number}") for number in range(20)]
        assert statuses == [401] * 10 + [429] * 10
        hashes = site.verifier.statistics().hashed
        assert await status_with(session, "Bearer a-token") == 200
        assert await status_with(session, aiohttp.encode_basic_auth("admin", "a-token")) == 429, "never used before"
        assert site.verifier.statistics().hashed == hashes


async def test_a_thousand_guesses_in_an_hour_lock_out_every_login_of_the_address() -> None:
    clock = ManualClock()
    site = with_tokens(clock=clock)
    async with site.open() as session:

        async def guess(number: int) -> int:
            return await status_with(session, f"Bearer guess-{number}")

        for number in range(999):
            assert await guess(number) in (401, 429)
            assert await guess(number) in (401, 429), "the same one does not count again"
        assert await status_with(session, "Bearer robots-token") == 200
        assert await guess(1000) == 429
        assert await status_with(session, "Bearer robots-token") == 429
        clock.seconds += 30
        assert await status_with(session, "Bearer robots-token") == 200
        assert await guess(1001) == 401
        assert await status_with(session, "Bearer robots-token") == 429
        clock.seconds += 3601
        assert await guess(1002) == 401
        assert await status_with(session, "Bearer robots-token") == 200


async def test_a_trusted_proxy_names_the_client_that_is_throttled() -> None:
    site = with_tokens(trusted_proxies=(ip_network("127.0.0.0/8"),))
    async with site.open() as session:

        async def attempt(number: int, address: str) -> int:
            headers = {"Authorization": f"Bearer {number}", "X-Forwarded-For": address}
            async with session.get("/api/terminals", headers=headers) as response:
                return response.status

        statuses = [await attempt(number, f"192.0.2.{number}, 192.0.2.99") for number in range(12)]
        assert statuses == [401] * 10 + [429] * 2, "only the proxy's own entry counts"
        assert await attempt(20, "192.0.2.98") == 401


async def test_readiness_names_no_address_without_a_login() -> None:
    site = with_tokens()
    site.statuses["live"] = "nothing listens on broker.example:1883"

    async def checks(authorization: str | None) -> object:
        headers = {} if authorization is None else {"Authorization": authorization}
        async with site_session.get("/readyz", headers=headers) as response:
            assert response.status == 503
            return (await response.json())["checks"]["broker (live)"]

    async with site.open() as site_session:
        assert await checks(None) == "not connected"
        assert await checks("Bearer robots-token") == "nothing listens on broker.example:1883"
        for number in range(12):
            assert await checks(f"Bearer guess-{number}") == "not connected"
        assert await status_with(site_session, "Bearer guess-x") == 429, "guesses count there too"


async def test_the_audit_names_the_user_of_a_press() -> None:
    site = with_tokens()
    records: list[AuditRecord] = []
    site.events.subscribe(
        CommandReplied, lambda event: records.append(AuditRecord.of(event.reply, event.origin)), name="test"
    )
    async with site.open() as session:
        for authorization in (ADMIN, "Bearer robots-token"):
            assert await status_with(session, authorization, "/api/terminals/T1/open", "POST") == 200
    assert [record.user for record in records] == ["admin", "robot"]


async def test_simultaneous_guesses_cost_no_more_hashes_than_successive_ones(hashed: str) -> None:
    site = WebServerUnderTest(username="admin", password=Secret(hashed))
    async with site.open() as session:
        guesses = (status_with(session, aiohttp.encode_basic_auth("admin", f"{n}")) for n in range(40))
        statuses = await asyncio.gather(*guesses)
    assert statuses.count(401) == 10
    assert set(statuses) <= {401, 429, 503}
    assert site.verifier.statistics().hashed == 10


async def test_the_same_wrong_login_many_times_at_once_counts_once(hashed: str) -> None:
    site = WebServerUnderTest(username="admin", password=Secret(hashed))
    async with site.open() as session:
        statuses = await asyncio.gather(*(status_with(session, "Basic OjE=") for _ in range(20)))
        assert set(statuses) == {401}
        assert await status_with(session, aiohttp.encode_basic_auth("admin", "a-token")) == 200
    assert site.verifier.statistics().hashed == 2


async def test_a_program_with_an_outdated_token_blocks_no_other_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "bridge")
    async with with_tokens().open() as session:
        for _ in range(30):
            assert await status_with(session, "Bearer outdated") == 401
        assert await status_with(session, "Bearer robots-token") == 200
    assert [record.getMessage() for record in caplog.records] == ["wrong login from 127.0.0.1"]


async def test_a_right_login_does_not_reset_the_count_of_guesses() -> None:
    async with with_tokens().open() as session:
        statuses = []
        for number in range(12):
            statuses.append(await status_with(session, f"Bearer guess-{number}"))
            await status_with(session, "Bearer robots-token")
        assert statuses == [401] * 10 + [429] * 2


async def test_a_remembered_login_does_not_wait_behind_a_guess(hashed: str) -> None:
    site = WebServerUnderTest(username="admin", password=Secret(hashed))
    async with site.open() as session:
        right = aiohttp.encode_basic_auth("admin", "a-token")
        assert await status_with(session, right) == 200
        guessing, go_on = asyncio.Event(), asyncio.Event()

        async def slow_verification(_stored: Secret, _given: str) -> bool:
            guessing.set()
            await go_on.wait()
            return False

        site.verify = slow_verification
        guess = asyncio.get_running_loop().create_task(
            status_with(session, aiohttp.encode_basic_auth("admin", "guess"))
        )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await guessing.wait()
            assert await status_with(session, right) == 200
            go_on.set()
            assert await guess == 401


async def test_a_forwarded_address_is_ignored() -> None:
    async with with_tokens().open() as session:
        statuses = []
        for number in range(12):
            headers = {"Authorization": f"Bearer {number}", "X-Forwarded-For": f"192.0.2.{number}"}
            async with session.get("/api/terminals", headers=headers) as response:
                statuses.append(response.status)
        assert statuses == [401] * 10 + [429] * 2


async def test_an_account_is_guarded_against_guesses_from_many_addresses(hashed: str) -> None:
    clock = ManualClock()
    tokens = {"robot": TokenSettings(hash=Secret(hashed), role="operator")}
    site = WebServerUnderTest(
        clock=clock,
        username="admin",
        password=Secret(hashed),
        tokens=tokens,
        trusted_proxies=(ip_network("127.0.0.0/8"),),
    )
    right = aiohttp.encode_basic_auth("admin", "a-token")
    async with site.open() as session:

        async def attempt(authorization: str, address: int) -> int:
            headers = {"Authorization": authorization, "X-Forwarded-For": f"192.0.2.{address}"}
            async with session.get("/api/terminals", headers=headers) as response:
                return response.status

        async def guess(number: int) -> int:
            return await attempt(aiohttp.encode_basic_auth("admin", f"{number}"), number % 40)

        statuses = [await guess(number) for number in range(110)]
        assert statuses == [401] * 100 + [429] * 10
        assert await attempt(right, 200) == 429, "not used since the start, so it would need another hash"
        assert await attempt("Bearer a-token", 200) == 200, "other accounts are not affected"
        assert await attempt(aiohttp.encode_basic_auth("unknown", "x"), 201) == 401
        clock.seconds += 30
        assert await attempt(right, 200) == 200
        assert await guess(111) == 401
        assert await guess(112) == 429, "one guess, not a hundred"
        assert await attempt(right, 202) == 200, "it was right before"
    assert site.verifier.statistics().hashed < 110


async def form_logins(hashed: str) -> tuple[Logins, PasswordVerifier]:
    verifier = PasswordVerifier()
    tokens = {
        "guard": TokenSettings(hash=Secret(hashed), role="operator"),
        "admin": TokenSettings(hash=Secret("token-of-the-same-name"), role="operator"),
    }
    settings = WebSettings(host="127.0.0.1", port=0, url=None, username="admin", password=Secret(hashed), tokens=tokens)
    return Logins(settings, verifier.verify, ManualClock()), verifier


async def test_the_form_accepts_the_user_and_tokens_with_their_names(hashed: str) -> None:
    logins, _ = await form_logins(hashed)
    assert (await logins.of_form("admin", "a-token", "a")).role == "admin"
    assert (await logins.of_form("guard", "a-token", "a")).role == "operator"
    assert (await logins.of_form("admin", "token-of-the-same-name", "a")).role == "operator"
    for name, password in (("guard", "token-of-the-same-name"), ("Admin", "a-token"), ("", "a-token"), ("guard", "")):
        with pytest.raises(RequestError, match="wrong login"):
            await logins.of_form(name, password, name)


async def test_an_unknown_name_costs_as_many_hashes_as_a_known_one(hashed: str) -> None:
    logins, verifier = await form_logins(hashed)
    for number, name in enumerate(("admin", "unknown", "guard"), start=1):
        with pytest.raises(RequestError):
            await logins.of_form(name, f"guess {number}", "a")
        assert verifier.statistics().hashed == number


async def test_the_same_login_counts_apart_in_header_and_form(hashed: str) -> None:
    logins, _ = await form_logins(hashed)
    await logins.of_header("Bearer token-of-the-same-name", "a")
    with pytest.raises(RequestError):
        await logins.of_header(aiohttp.encode_basic_auth("guard", "a-token"), "a")
    await logins.of_form("guard", "a-token", "a")
