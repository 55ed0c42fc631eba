"""Many simulated terminals in one process."""

import asyncio
import resource

from bridge.protocol.requests import encode_open
from bridge.simulator.behaviour import Behaviour
from bridge.simulator.fleet import SimulatedFleet, simulated_sn
from tests.simulator.web_socket_server import TIMEOUT_SECONDS, WebSocketServer


def test_serial_numbers_are_predictable() -> None:
    assert simulated_sn(1) == "SIM0000000001"
    assert simulated_sn(1234567890) == "SIM1234567890"


async def test_all_terminals_connect_but_not_all_at_once(server: WebSocketServer) -> None:
    server.handshake_delay = 0.02
    fleet = SimulatedFleet(server.url, map(simulated_sn, range(11, 71)), connect_concurrency=10)
    async with asyncio.timeout(TIMEOUT_SECONDS), fleet.running():
        await fleet.wait_connected()
        connections = [await server.next_connection() for _ in range(60)]
        assert {connection.sn for connection in connections} == {simulated_sn(11 + n) for n in range(60)}
        assert 1 < server.max_simultaneous <= 10
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


async def test_raises_the_limit_of_open_files(server: WebSocketServer) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (90, before[1]))
    try:
        fleet = SimulatedFleet(server.url, map(simulated_sn, range(1, 51)))
        async with asyncio.timeout(TIMEOUT_SECONDS), fleet.running():
            await fleet.wait_connected()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (150, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
