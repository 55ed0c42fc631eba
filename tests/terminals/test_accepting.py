"""Connections that wait for their handshake because the bridge is busy."""

import asyncio
import socket
import struct

from bridge.terminals.accepting import GRACE_SECONDS, Acceptor
from tests.support.core import ManualClock
from tests.support.waiting import until


async def test_a_client_that_has_given_up_costs_no_handshake() -> None:
    clock, has_room = ManualClock(), asyncio.Event()
    opened: list[socket.socket] = []

    async def open_connection(connection: socket.socket) -> None:
        opened.append(connection)

    async def wait_room() -> int:
        await has_room.wait()
        return 8

    acceptor = Acceptor(open_connection, wait_room, clock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        acceptor.start([listener])
        closed, reset, patient = (socket.create_connection(listener.getsockname()) for _ in range(3))
        await until(lambda: acceptor.waiting == 3)
        for client in (closed, reset, patient):
            client.send(b"GET /devs/T1 HTTP/1.1")
        closed.close()
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        clock.seconds += GRACE_SECONDS + 1
        has_room.set()
        await until(lambda: acceptor.waiting == 0 and len(opened) > 0)
        await acceptor.stop()
        assert [one.getpeername() for one in opened] == [patient.getsockname()]
        patient.close()
        opened[0].close()
