"""A simulated terminal that reports what it carries out: `python -m tests.support.soak.terminal_program URL SN`.

It writes a JSON object a line: each request with the time at which it was read, and on request the persons. It reads
commands as JSON objects from its standard input: `{"behaviour": {…}}`, `{"disconnect": "CLOSE"}`, `{"report": N}`.
"""

import asyncio
import sys

import orjson

from bridge.simulator.behaviour import Behaviour, Drop, Garbage, Refusal
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.person_stream import held
from tests.support.soak.clock import now

_PING_SECONDS = 5.0
"""The terminal connects anew after three intervals without a frame."""


def _write(**line: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


async def _report_requests(terminal: SimulatedTerminal) -> None:
    reported = 0

    def has_more() -> bool:
        return terminal.statistics().requests > reported

    while True:
        await terminal.wait_until(has_more)
        total = terminal.statistics().requests
        for request in list(terminal.requests)[reported - total :]:
            _write(request={"cmd": request.cmd, "msgid": request.msgid, "at": request.at})
        reported = total


async def _obey(terminal: SimulatedTerminal, line: bytes) -> None:
    command = orjson.loads(line)
    if "behaviour" in command:
        fields = command["behaviour"]
        if "garbage" in fields:
            fields["garbage"] = Garbage[fields["garbage"]]
        if "refuses_persons" in fields:
            ids = fields.pop("refuses_persons")
            fields |= {"refusal": Refusal(7, "no more room"), "only_for": frozenset((*ids, None))}
        terminal.behaviour = Behaviour(**fields)
    elif "disconnect" in command:
        await terminal.disconnect(Drop[command["disconnect"]])
    else:
        persons = {person.id: held(person) for person in terminal.persons.values()}
        statistics = terminal.statistics()
        _write(
            report=command["report"],
            persons=persons,
            presses=terminal.opened + terminal.rebooted,
            connections=statistics.connections,
            connected=terminal.connected,
        )


async def _main(url: str, sn: str) -> None:
    options = ConnectionOptions(ping_seconds=_PING_SECONDS, first_retry_seconds=0.1, max_retry_seconds=1)
    terminal = SimulatedTerminal(url, sn, options=options, clock=now)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with terminal.running():
        reporting = loop.create_task(_report_requests(terminal))
        while line := await reader.readline():
            await _obey(terminal, line)
        reporting.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
