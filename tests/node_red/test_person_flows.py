"""The flows that send persons to terminals: from a form, and from a CSV file."""

import asyncio
import csv
import io
import random
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from tests.node_red.node_red_system import NodeRedSystem, SystemFactory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SET = "facebridge/terminal/T1/person/set"
FORM = {"id": "2001", "name": "Ada", "valid_until": "2030-01-01T18:00"}
_OUTCOME = re.compile(r'data-outcome="(\w+)"')


class VisitorForm:
    """The form for visitors, as a browser uses it."""

    def __init__(self, system: NodeRedSystem, language: str) -> None:
        self.url = f"{system.node_red.url}{'/zh' if language == 'zh-CN' else ''}/visitors"

    async def page(self) -> aiohttp.ClientResponse:
        async with aiohttp.ClientSession() as http, http.get(self.url) as answer:
            await answer.text()
            return answer

    async def send(self, photo: bytes | None, headers: dict[str, str] | None = None, **fields: str) -> tuple[int, str]:
        """Submit the form and follow the redirect; return status and text of the page, and keep its URL."""
        form = aiohttp.FormData({**FORM, **fields})
        if photo is not None:
            form.add_field("photo", photo, filename="me.jpg", content_type="image/jpeg")
        async with aiohttp.ClientSession() as http, http.post(self.url, data=form, headers=headers) as answer:
            text = await answer.text()
            self.answer_url = str(answer.url)
            return answer.status, text

    async def wait_outcome(self, *outcomes: str) -> str:
        """Reload the answer page, as it does by itself, until it shows one of these outcomes; return its text."""
        async with aiohttp.ClientSession() as http, asyncio.timeout(30):
            while True:
                async with http.get(self.answer_url) as answer:
                    text = await answer.text()
                shown = _OUTCOME.search(text)
                assert shown is not None, text
                if shown[1] in outcomes:
                    return text
                await asyncio.sleep(0.1)


async def test_visitor_is_enrolled_with_the_form(run_flow: SystemFactory, language: str) -> None:
    async with run_flow("visitor", SN="T1") as system:
        visitors = VisitorForm(system, language)
        page = await visitors.page()
        assert page.status == 200
        assert page.content_type == "text/html"
        status, _ = await visitors.send(sample_photo(1, (640, 480)))
        assert status == 200
        text = await visitors.wait_outcome("accepted")
        assert 'http-equiv="refresh"' in text, "the terminal is offline: the page keeps reloading"
        (sent,) = [one for one in system.client.heard if one.topic == SET]
        assert (sent.qos, sent.retain) == (1, False)
        async with system.terminal_connected() as terminal:
            text = await visitors.wait_outcome("ok")
            assert "refresh" not in text
            held = terminal.persons["2001"]
            assert held.name == "Ada"
            assert held.visitor

            terminal.behaviour = Behaviour(refusal=Refusal(3, "<script>no face</script>"))
            await visitors.send(sample_photo(2, (640, 480)), id="2002", name="<b>Eve</b>")
            text = await visitors.wait_outcome("refused")
            assert "&lt;script&gt;no face" in text
            assert "<script>" not in text
            assert "Eve" not in text


async def test_form_with_invalid_fields(run_flow: SystemFactory, language: str) -> None:
    async with run_flow("visitor", SN="T1") as system:
        visitors = VisitorForm(system, language)
        photo = sample_photo(1, (64, 80))
        wrong: list[tuple[dict[str, str], bytes | None, int]] = [
            ({"id": "<script>"}, photo, 400),
            ({"id": ""}, photo, 400),
            ({"name": " "}, photo, 400),
            ({"valid_until": ""}, photo, 400),
            ({}, None, 400),
            ({}, b"", 400),
            ({}, bytes(1_000_001), 413),
        ]
        for fields, given, expected in wrong:
            status, text = await visitors.send(given, None, **fields)
            assert status == expected, (fields, text)
            assert text.count("<p>") == 2, text
            assert "<script>" not in text
        status, _ = await visitors.send(photo, {"Sec-Fetch-Site": "cross-site"})
        assert status == 403
        assert not [one for one in system.client.heard if one.topic == SET]

        await visitors.send(b"this is no picture")
        assert "<li>photo: " in await visitors.wait_outcome("invalid")
        await visitors.send(photo, valid_until="2001-01-01", valid_from="2002-01-01")
        assert "valid_" in await visitors.wait_outcome("invalid")
        visitors.answer_url = f"{visitors.url}/answer?request=__proto__"
        await visitors.wait_outcome("unknown")


async def test_large_photo(run_flow: SystemFactory, language: str) -> None:
    async with run_flow("visitor", SN="T1") as system, system.terminal_connected() as terminal:
        visitors = VisitorForm(system, language)
        noise = Image.frombytes("RGB", (700, 700), random.Random(1).randbytes(700 * 700 * 3))
        stream = io.BytesIO()
        noise.save(stream, "JPEG", quality=95)
        assert 500_000 < len(stream.getvalue()) <= 1_000_000
        await visitors.send(stream.getvalue())
        await visitors.wait_outcome("ok")
        assert terminal.persons["2001"].photo_length == len(stream.getvalue())


async def test_visitor_while_bridge_or_broker_is_stopped(run_flow: SystemFactory, language: str) -> None:
    async with run_flow("visitor", SN="T1") as system:
        visitors = VisitorForm(system, language)
        await system.bridge.stop()
        await visitors.send(sample_photo(1, (64, 80)))
        await visitors.wait_outcome("kept")
        await system.bridge.start()
        await visitors.wait_outcome("accepted")
        await visitors.send(sample_photo(2, (64, 80)))
        first_url = visitors.answer_url
        await visitors.wait_outcome("accepted")
        await visitors.send(sample_photo(3, (64, 80)))
        second_url, visitors.answer_url = visitors.answer_url, first_url
        await visitors.wait_outcome("superseded")
        visitors.answer_url = second_url
        await visitors.wait_outcome("accepted")
        await system.broker.stop()
        await visitors.send(sample_photo(1, (64, 80)), id="2003")
        await visitors.wait_outcome("unsent")
        await system.start_broker()


def write_persons(folder: Path, rows: list[dict[str, Any]], pictures: dict[str, bytes]) -> dict[str, str]:
    """Write the files of a user, with a CSV as a spreadsheet saves it; return the flow's settings for them."""
    (folder / "pictures").mkdir()
    for person_id, picture in pictures.items():
        (folder / "pictures" / f"{person_id}.jpg").write_bytes(picture)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "persons.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return {
        "CSV_FILE": str(folder / "persons.csv"),
        "PICTURES": str(folder / "pictures"),
        "REPORT_FILE": str(folder / "report.csv"),
    }


async def report(system: NodeRedSystem, folder: Path) -> dict[str, tuple[str, str]]:
    """Wait until the flow has finished; return outcome and reason of each row, by row number."""
    await system.wait_text("The report in a sentence")
    await _until_written(folder / "report.csv")
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        return {row["row"]: (row["outcome"], row["reason"]) for row in csv.DictReader(file)}


async def _until_written(path: Path) -> None:
    while not path.exists() or not path.read_bytes().endswith(b"\n"):
        await asyncio.sleep(0.05)


async def test_persons_of_a_csv_are_sent_in_batches(run_flow: SystemFactory, tmp_path: Path) -> None:
    rows = [{"id": str(3000 + n), "name": f"Name, {n}", "pass_count": "5"} for n in range(25)]
    pictures = {row["id"]: sample_photo(n, (64, 80)) for n, row in enumerate(rows)}
    settings = write_persons(tmp_path, rows, pictures)
    async with run_flow("persons-from-csv", SN="T1", WAIT_SECONDS=30, **settings) as system:
        async with system.terminal_connected() as terminal:
            await system.press("Start")
            rows_reported = await report(system, tmp_path)
            assert {outcome for outcome, _ in rows_reported.values()} == {"ok"}, rows_reported
            assert list(rows_reported) == [str(row) for row in range(2, 27)]
            assert terminal.persons["3007"].name == "Name, 7"
            assert len(terminal.persons) == 25
        sent = [one for one in system.client.heard if one.topic == SET]
        assert [len(one.json["persons"]) for one in sent] == [10, 10, 5]
        assert {one.qos for one in sent} == {1}
        order = [
            (one.topic.rsplit("/", 1)[-1], one.json["request_id"])
            for one in system.client.heard
            if one.topic == SET or (one.topic.endswith("/reply") and one.json["outcome"] == "accepted")
        ]
        for number, batch in enumerate(sent[1:], start=1):
            before = order[: order.index(("set", batch.json["request_id"]))]
            answered = before.count(("reply", sent[number - 1].json["request_id"]))
            assert answered == 10, "a batch waits until the one before was accepted"
        assert len(system.shown_texts("How far it is")) == 4


async def test_report_has_the_outcome_of_each_row(run_flow: SystemFactory, tmp_path: Path) -> None:
    noise = random.Random(2).randbytes(620 * 620 * 3 + 3)
    large = {}
    for number in range(3):
        stream = io.BytesIO()
        Image.frombytes("RGB", (620, 620), noise[number : number + 620 * 620 * 3]).save(stream, "JPEG", quality=95)
        large[str(4100 + number)] = stream.getvalue()
    assert all(400_000 < len(picture) < 600_000 for picture in large.values())
    rows = [
        {"id": "4001", "name": "Good"},
        {"id": "../4002", "name": "Bad id"},
        {"id": "4001", "name": "Twice"},
        {"id": "4003", "name": "No photo"},
        {"id": "4004", "name": "No picture in it"},
        {"id": "4005", "name": "Too large"},
        {"id": "4006", "name": "Bad hours", "weekly": "25:00-26:00"},
        {"id": "4007", "name": "Refused", "enabled": "true", "weekly": "08:00-18:00"},
        *({"id": person_id, "name": "Large"} for person_id in large),
    ]
    pictures = {person_id: sample_photo(1, (64, 80)) for person_id in ("4001", "4006", "4007")}
    settings = write_persons(tmp_path, rows, {**pictures, **large, "4004": b"no picture", "4005": bytes(1_000_001)})
    async with run_flow("persons-from-csv", SN="T1", WAIT_SECONDS=30, **settings) as system:
        async with system.terminal_connected() as terminal:
            terminal.behaviour = Behaviour(refusal=Refusal(9, 'no "face", sorry'), only_for=frozenset({"4007"}))
            await system.press("Start")
            await system.press("Start")
            rows_reported = await report(system, tmp_path)
        outcomes = {row: outcome for row, (outcome, _) in rows_reported.items()}
        expected = ["ok", "invalid", "invalid", "invalid", "invalid", "invalid", "invalid", "refused", "ok", "ok", "ok"]
        assert list(outcomes.values()) == expected, rows_reported
        assert rows_reported["9"][1] == 'no "face", sorry'
        for row, reason in {"3": "id", "4": "id", "5": "photo", "6": "photo", "7": "photo", "8": "weekly"}.items():
            assert rows_reported[row][1].startswith(reason), rows_reported
        sizes = [len(one.payload) for one in system.client.heard if one.topic == SET]
        assert max(sizes) < 1_500_000, sizes
        assert len(sizes) == 2


async def test_csv_while_terminal_bridge_or_broker_is_offline(run_flow: SystemFactory, tmp_path: Path) -> None:
    rows = [{"id": str(5000 + n), "name": f"Name {n}"} for n in range(12)]
    settings = write_persons(tmp_path, rows, {row["id"]: sample_photo(1, (64, 80)) for row in rows})
    async with run_flow("persons-from-csv", SN="T1", WAIT_SECONDS=3, **settings) as system:
        await system.press("Start")
        rows_reported = await report(system, tmp_path)
        assert {outcome for outcome, _ in rows_reported.values()} == {"accepted"}, "the terminal is offline"

        (tmp_path / "report.csv").unlink()
        await system.bridge.stop()
        await system.press("Start")
        await system.wait_text("The report in a sentence", number=2)
        rows_reported = await report(system, tmp_path)
        assert [outcome for outcome, _ in rows_reported.values()] == ["no_answer"] * 10 + ["not_sent"] * 2
        await system.bridge.start()

        (tmp_path / "report.csv").unlink()
        await system.client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")
        await system.broker.stop()
        await system.press("Start")
        await system.start_broker()
        await system.wait_text("The report in a sentence", number=3)
        rows_reported = await report(system, tmp_path)
        assert {outcome for outcome, _ in rows_reported.values()} == {"accepted"}, "a dropped batch is sent again"


async def test_missing_csv(run_flow: SystemFactory, tmp_path: Path) -> None:
    settings = {"CSV_FILE": str(tmp_path / "nothing.csv"), "REPORT_FILE": str(tmp_path / "report.csv")}
    async with run_flow("persons-from-csv", SN="T1", **settings) as system:
        await system.press("Start")
        await system.node_red.wait_shown(lambda shown: "nothing.csv" in shown.text, "the file's name")
