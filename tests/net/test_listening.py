"""Start and stop of a server."""

import asyncio
import socket

import pytest

from bridge.net.listening import ListenError, listen, wait_for_tasks


async def test_it_listens_on_every_address_of_the_host_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    async def two_addresses(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two_addresses)
    listeners = await listen("two.example.org", 0, key="web.port", backlog=1)
    names = [listener.getsockname() for listener in listeners]
    assert not any(listener.getblocking() for listener in listeners)
    for listener in listeners:
        listener.close()
    assert names == [("127.0.0.1", names[0][1]), ("127.0.0.2", names[0][1])]


async def test_a_port_in_use_is_named_by_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        message = (
            rf"^web\.port: cannot listen on 127\.0\.0\.1:{port}: Address already in use\. Another program or bridge"
            rf" uses the port \(`ss -ltnp sport = :{port}` shows it\): stop it, or set web\.port to another port$"
        )
        with pytest.raises(ListenError, match=message):
            await listen("127.0.0.1", port, key="web.port", backlog=1)


async def test_an_unknown_host_is_an_error_with_a_reason() -> None:
    with pytest.raises(ListenError, match=r"^terminals\.port: cannot listen on nothing\.invalid:1: \w+"):
        await listen("nothing.invalid", 1, key="terminals.port", backlog=1)


async def test_tasks_are_awaited_for_a_bounded_time() -> None:
    loop = asyncio.get_running_loop()
    await wait_for_tasks([], 0)
    quick, endless = loop.create_task(asyncio.sleep(0)), loop.create_task(asyncio.sleep(3600))
    await wait_for_tasks([quick, endless], 0.05)
    assert quick.done()
    assert not endless.done()
    endless.cancel()
