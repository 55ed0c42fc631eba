"""Lifetimes of sessions, their key and their end, with a real store."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

import orjson
import pytest
from cryptography.fernet import Fernet

from bridge.config.settings import TokenSettings, WebSettings
from bridge.model.secret import Secret
from bridge.net.passwords import PasswordVerifier
from bridge.store.backup import back_up
from bridge.store.database import Database
from bridge.store.web_sessions import StoredSessions
from bridge.web.logins import Logins
from bridge.web.sessions import IDLE_SECONDS, MAX_SECONDS, RENEW_SECONDS, LoginSession, Sessions, cookie_name
from tests.support.core import ManualClock
from tests.support.waiting import TIMEOUT_SECONDS

PLAIN = cookie_name(is_secure=False, is_at_root=True)
NO_TOKENS: Mapping[str, TokenSettings] = MappingProxyType({})


def logins(clock: ManualClock, password: str = "p", tokens: Mapping[str, TokenSettings] = NO_TOKENS) -> Logins:
    settings = WebSettings(
        host="127.0.0.1", port=0, url=None, username="admin", password=Secret(password), tokens=tokens
    )
    return Logins(settings, PasswordVerifier().verify, clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{tmp_path / 'store.db'}")
    yield database
    await database.close()


async def loaded(database: Database, clock: ManualClock, used: Logins | None = None) -> Sessions:
    sessions = Sessions(StoredSessions(database), used or logins(clock), clock)
    await sessions.load()
    return sessions


@pytest.fixture
async def sessions(database: Database, clock: ManualClock) -> Sessions:
    return await loaded(database, clock)


def begin(sessions: Sessions, cookie: str = PLAIN) -> LoginSession:
    return sessions.begin(next(logins(ManualClock()).named("admin")), cookie)


def read(sessions: Sessions, value: str, cookie: str = PLAIN) -> LoginSession | None:
    return sessions.read({cookie: value}, is_secure=cookie != PLAIN)


async def test_a_session_ends_if_it_is_not_used(sessions: Sessions, clock: ManualClock) -> None:
    value = sessions.value(begin(sessions))
    clock.seconds += IDLE_SECONDS - 1
    assert read(sessions, value) is not None
    clock.seconds += 2
    assert read(sessions, value) is None


async def test_a_session_that_is_used_ends_after_the_longest_time(sessions: Sessions, clock: ManualClock) -> None:
    session = begin(sessions)
    start = clock.seconds
    value = sessions.value(session)
    while (found := read(sessions, value)) is not None:
        clock.seconds += IDLE_SECONDS - 60
        assert sessions.is_due(found)
        value = sessions.value(sessions.renewed(found))
    assert clock.seconds - start == pytest.approx(MAX_SECONDS, abs=IDLE_SECONDS)
    assert clock.seconds - start >= MAX_SECONDS


async def test_a_cookie_is_renewed_only_now_and_then(sessions: Sessions, clock: ManualClock) -> None:
    session = begin(sessions)
    assert not sessions.is_due(session)
    clock.seconds += RENEW_SECONDS
    assert sessions.is_due(session)
    assert not sessions.is_due(sessions.renewed(session))


async def test_a_clock_that_was_set_back_ends_sessions(sessions: Sessions, clock: ManualClock) -> None:
    value = sessions.value(begin(sessions))
    clock.seconds -= 3600
    assert read(sessions, value) is None


async def test_sessions_and_their_end_survive_a_restart(
    sessions: Sessions, database: Database, clock: ManualClock
) -> None:
    ended, kept = begin(sessions), begin(sessions)
    await sessions.end(ended)
    again = await loaded(database, clock)
    assert read(again, sessions.value(ended)) is None
    assert read(again, sessions.value(kept)) is not None
    assert again.csrf_token(kept) == sessions.csrf_token(kept)
    assert again.csrf_token(kept) != again.csrf_token(ended)


async def test_the_renewed_cookie_of_an_ended_session_is_invalid_too(sessions: Sessions) -> None:
    session = begin(sessions)
    await sessions.end(session)
    assert read(sessions, sessions.value(sessions.renewed(session))) is None


async def test_ends_are_forgotten_when_the_cookies_have_expired(
    sessions: Sessions, database: Database, clock: ManualClock
) -> None:
    for _ in range(3):
        await sessions.end(begin(sessions))
        clock.seconds += MAX_SECONDS / 2 + 1
    _, ended = await StoredSessions(database).load(b"")
    assert len(ended) == 2


async def test_too_many_ended_sessions_end_all(database: Database, clock: ManualClock) -> None:
    sessions = Sessions(StoredSessions(database), logins(clock), clock, max_ended=5)
    await sessions.load()
    kept = begin(sessions)
    value, token = sessions.value(kept), sessions.csrf_token(kept)
    called: list[bool] = []
    with sessions.until_end(kept, lambda: called.append(True)):
        for _ in range(5):
            await sessions.end(begin(sessions))
        assert read(sessions, value) is not None
        assert not called
        await sessions.end(begin(sessions))
        assert called == [True]
    assert read(sessions, value) is None
    assert sessions.csrf_token(kept) != token
    _, ended = await StoredSessions(database).load(b"")
    assert not ended
    assert read(await loaded(database, clock), value) is None
    assert read(sessions, sessions.value(begin(sessions))) is not None


async def test_another_password_or_a_removed_token_ends_its_sessions(
    sessions: Sessions, database: Database, clock: ManualClock
) -> None:
    value = sessions.value(begin(sessions))
    assert read(await loaded(database, clock, logins(clock)), value) is not None
    assert read(await loaded(database, clock, logins(clock, "q")), value) is None
    tokens = {"guard": TokenSettings(hash=Secret("t"), role="operator")}
    with_token = logins(clock, tokens=tokens)
    issuing = await loaded(database, clock, with_token)
    guard = issuing.value(issuing.begin(next(with_token.named("guard")), PLAIN))
    found = read(issuing, guard)
    assert found is not None
    assert found.account.role == "operator"
    assert read(sessions, guard) is None


async def test_a_role_is_that_of_the_configuration(database: Database, clock: ManualClock) -> None:
    before = logins(clock, tokens={"guard": TokenSettings(hash=Secret("t"), role="admin")})
    after = logins(clock, tokens={"guard": TokenSettings(hash=Secret("t"), role="operator")})
    issuing = await loaded(database, clock, before)
    value = issuing.value(issuing.begin(next(before.named("guard")), PLAIN))
    found = read(await loaded(database, clock, after), value)
    assert found is not None
    assert found.account.role == "operator"


async def test_cookies_of_another_key_or_another_form_are_invalid(sessions: Sessions, clock: ManualClock) -> None:
    claims = {"id": "x", "name": "admin", "login": "x", "created": int(clock.now().timestamp()), "cookie": PLAIN}
    stranger = Fernet(urlsafe_b64encode(b"k" * 32))
    now = int(clock.now().timestamp())
    for content in (orjson.dumps(claims), b"", b"[]", b"7", b"\xff"):
        assert read(sessions, stranger.encrypt_at_time(content, now).decode()) is None


async def test_a_secure_request_ignores_a_cookie_that_was_set_without_https(sessions: Sessions) -> None:
    value = sessions.value(begin(sessions))
    assert sessions.read({PLAIN: value}, is_secure=False) is not None
    assert sessions.read({PLAIN: value}, is_secure=True) is None
    host = cookie_name(is_secure=True, is_at_root=True)
    assert sessions.read({host: value}, is_secure=True) is None
    assert sessions.read({host: sessions.value(begin(sessions, host))}, is_secure=True) is not None


async def test_streams_end_with_their_session_and_when_it_expires(sessions: Sessions, clock: ManualClock) -> None:
    session, other = begin(sessions), begin(sessions)
    ended: list[str] = []
    expired = asyncio.Event()
    with (
        sessions.until_end(session, lambda: ended.append("one")),
        sessions.until_end(session, lambda: ended.append("two")),
        sessions.until_end(other, lambda: ended.append("other")),
    ):
        await sessions.end(session)
        assert sorted(ended) == ["one", "two"]
        clock.seconds += IDLE_SECONDS
        with sessions.until_end(other, expired.set):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await expired.wait()
    await sessions.end(other)
    assert sorted(ended) == ["one", "two"]


async def test_a_logout_counts_also_if_the_store_fails(
    sessions: Sessions, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    session = begin(sessions)
    value = sessions.value(session)
    await database.close()
    await sessions.end(session)
    assert read(sessions, value) is None
    assert "a logout could not be stored" in caplog.text


async def test_a_backup_contains_no_key(sessions: Sessions, tmp_path: Path) -> None:
    await sessions.end(begin(sessions))
    await back_up(f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "backup", lambda *_: None)
    copy = await Database.open(f"sqlite:///{tmp_path / 'backup'}")
    try:
        key, ended = await StoredSessions(copy).load(b"new key")
    finally:
        await copy.close()
    assert key == b"new key"
    assert not ended
