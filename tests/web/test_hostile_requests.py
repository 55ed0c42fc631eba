"""Requests that no honest client sends, and large ones that honest clients send."""

import io
import random
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bridge.persons.preparation import PhotoPreparer
from bridge.web.api.paging import encode_cursor
from bridge.web.context import WebLimits
from tests.persons.person_system import person, person_system
from tests.support.web import WebServerUnderTest

LISTS = ("/api/terminals", "/api/groups", "/api/pending", "/api/persons", "/api/terminals/T1/persons", "/api/log")


def large_picture(size: int) -> bytes:
    """Return a JPEG of noise, padded to a size by bytes behind its end, which decoders ignore."""
    noise = random.Random(1).randbytes(400 * 300 * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (400, 300), noise).save(buffer, "JPEG", quality=95)
    return buffer.getvalue().ljust(size, b"\0")


@pytest.mark.parametrize("as_form", [True, False])
async def test_a_picture_of_ten_megabytes_is_accepted_and_a_larger_one_is_not(tmp_path: Path, as_form: bool) -> None:
    max_bytes = 10 * 1024 * 1024
    path = "/api/terminals/T1/persons/p1"
    async with person_system(tmp_path, photos=PhotoPreparer(max_bytes=max_bytes)) as system:
        site = WebServerUnderTest(persons=system, limits=WebLimits(max_photo_bytes=max_bytes))
        async with site.open() as session:
            for size, statuses in ((max_bytes, {202}), (max_bytes + 1, {400, 413}), (max_bytes + 400_000, {400, 413})):
                picture = large_picture(size)
                if as_form:
                    data = aiohttp.FormData()
                    data.add_field("name", "Ada")
                    data.add_field("photo", io.BytesIO(picture), filename="ada.jpg", content_type="image/jpeg")
                    sending = session.put(path, data=data)
                else:
                    body = io.BytesIO(orjson.dumps({"name": "Ada", "photo": b64encode(picture).decode()}))
                    sending = session.put(path, data=body, headers={"Content-Type": "application/json"})
                async with sending as response:
                    assert response.status in statuses, await response.text()
                    answer = await response.json()
                    if response.status != 202:
                        assert answer["errors"][0]["path"] in ("photo", "")
                        assert "MB are accepted" in str(answer) or "bytes are accepted" in str(answer)


@pytest.mark.parametrize(
    "path", [*LISTS, "/api/groups/all/persons", "/api/persons/p1", "/api/events", "/api/terminals/T1/persons/p1/photo"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
    ],
    ids=str,
)
async def test_a_website_can_read_nothing(path: str, headers: dict[str, str]) -> None:
    async with WebServerUnderTest().open() as session, session.get(path, headers=headers) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers


async def status_of(site: WebServerUnderTest, target: str) -> int:
    """Return the status of a GET request whose target is sent as it is."""
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1")
    return int((await site.send(head)).split()[1])


@pytest.mark.parametrize(
    "target",
    [
        "/api/persons?q=%ff",
        "/api/persons?q=%ED%A0%80",
        "/api/persons?q=" + "%F0%9F%98%80" * 64,
        "/api/persons?q=%C4%B0",
        "/api/persons?%00=1",
        "/api/persons?=&=",
        "/api/persons?limit=%E0%A5%A7",
        "/api/persons/..%2F..%2Fetc",
        "/api/persons/%2E%2E",
        "/api/persons/..",
        "/api/persons/%00",
        "/api/persons/" + "%41" * 65,
        "/api/terminals/%2e%2e/persons/1/photo",
        "//api/persons",
        "/api/persons;x=1",
        "/api/persons/1/2",
        "/api/terminals/T1/persons/%5B%5D/photo",
        "/api/log?since=" + "9" * 60,
        "/api/log?since=2026-W01-1T08:00:00Z",
        "/api/log?since=2026-11-24T08:00:00%2B23:59:59.999999",
        "/api/events?terminals=" + ",".join(["T1"] * 500),
        "/api/persons?cursor=" + encode_cursor(("é" * 500,)),
        "/api/terminals?cursor=" + encode_cursor(("\ud7ff", "\uffff")),
    ],
)
async def test_odd_characters_are_answered(tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"))
        site = WebServerUnderTest(persons=system)
        async with site.open():
            if target.startswith("/api/events"):
                return
            assert await status_of(site, target) in (200, 400, 404)
    assert not [record for record in caplog.records if record.exc_info]


async def test_no_cursor_and_no_query_makes_the_server_fail(tmp_path: Path) -> None:
    async with person_system(tmp_path) as system:
        await system.set(person("p1"))
        site = WebServerUnderTest(persons=system)
        async with site.open() as session:
            loop_body = st.tuples(
                st.sampled_from(LISTS),
                st.sampled_from(["cursor", "q", "limit", "delivery", "state", "group", "sn", "since"]),
                st.one_of(
                    st.text(max_size=70),
                    st.lists(st.text(max_size=20), max_size=3).map(lambda parts: encode_cursor(tuple(parts))),
                ),
            )
            for path, name, value in examples(loop_body, 150):
                target = f"{path}?{name}={quote(value, errors='replace')}"
                async with session.get(target) as response:
                    assert response.status in (200, 400), (target, await response.text())


def examples(strategy: st.SearchStrategy[tuple[str, str, str]], number: int) -> list[tuple[str, str, str]]:
    """Return examples of a strategy, for a test whose server is too slow to start for each of them."""
    found: list[tuple[str, str, str]] = []

    @settings(max_examples=number, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(example: tuple[str, str, str]) -> None:
        found.append(example)

    collect()
    return found
