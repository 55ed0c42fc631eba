"""Many simulated terminals in one process."""

import asyncio
import resource

from bridge.protocol.requests import encode_open
from bridge.simulator.behaviour import Behaviour
from bridge.simulator.fleet import SimulatedFleet, simulated_sn
from tests.simulator.counterpart import PATIENCE, Counterpart


def test_serial_numbers_are_predictable() -> None:
    assert simulated_sn(1) == "SIM0000000001"
    assert simulated_sn(1234567890) == "SIM1234567890"


async def test_all_connect_but_not_all_at_once(counterpart: Counterpart) -> None:
    counterpart.handshake_delay = 0.02
    fleet = SimulatedFleet(counterpart.url, map(simulated_sn, range(11, 71)), connect_concurrency=10)
    async with asyncio.timeout(PATIENCE), fleet.running():
        await fleet.wait_connected()
        connections = [await counterpart.next_connection() for _ in range(60)]
        assert {connection.sn for connection in connections} == {simulated_sn(11 + n) for n in range(60)}
        assert 1 < counterpart.busiest <= 10
        statistics = fleet.statistics()
        assert (statistics.terminals, statistics.connected, statistics.attempts) == (60, 60, 60)

        for connection in connections:
            await connection.ask(encode_open(msgid="m", sn=connection.sn))
        assert fleet.statistics().opened == fleet.statistics().requests == 60

        fleet.set_behaviour(Behaviour(silent=True))
        await connections[0].websocket.send_str(encode_open(msgid="m", sn=connections[0].sn).decode())
        addressed = next(one for one in fleet.terminals if one.sn == connections[0].sn)
        await addressed.wait_request("open", count=2)
    assert fleet.statistics().connected == 0
    for connection in connections:
        assert (await connection.next_frame()).data is not None


async def test_makes_room_for_as_many_open_files_as_it_needs(counterpart: Counterpart) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (90, before[1]))
    try:
        fleet = SimulatedFleet(counterpart.url, map(simulated_sn, range(1, 51)))
        async with asyncio.timeout(PATIENCE), fleet.running():
            await fleet.wait_connected()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (150, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
