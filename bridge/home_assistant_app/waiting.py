"""Until there is a broker: asks the Supervisor again and again, and answers the watchdog meanwhile."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.app import StartError
from bridge.home_assistant_app.supervisor import (
    MqttService,
    NoMqttServiceError,
    Supervisor,
    SupervisorAwayError,
    SupervisorRefusedError,
)

_LOGGER = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds until the Supervisor is asked again, doubled each time: it may start itself, or be updating."""

_LOOK = 5.0
"""Seconds between two looks for a service that is not there: soon after the broker's app has started it is used."""

_REFUSALS = 3
"""Refused so often the token is wrong, and only a new start brings another; a Supervisor that starts refuses once."""

_NO_SERVICE = (
    "Home Assistant has no MQTT service yet. Install the Mosquitto broker app (Settings > Apps) and start it, or set"
    " mqtt.host on this app's Configuration page. Waiting for it"
)
_REFUSED = "the Supervisor %s; start this app again, and if that does not help, install it anew"


async def wait_for_broker(supervisor: Supervisor) -> MqttService:
    """Ask until there is a broker; each new reason to wait is told once.

    Raises:
        StartError: the Supervisor does not take the app's token.
    """
    told, pause, refusals = "", _FIRST_PAUSE, 0
    while True:
        try:
            service = await supervisor.mqtt_service()
        except NoMqttServiceError:
            problem, wait = _NO_SERVICE, _LOOK
        except SupervisorAwayError as error:
            problem, wait = f"the Supervisor {error}; asking again", pause
            pause = min(pause * 2, _LONGEST_PAUSE)
        except SupervisorRefusedError as error:
            refusals += 1
            if refusals == _REFUSALS:
                raise StartError(_REFUSED % error) from None
            problem, wait = f"the Supervisor {error}; asking again", _FIRST_PAUSE
        else:
            _LOGGER.info("using Home Assistant's MQTT service, %s:%s", service.host, service.port)
            return service
        if problem != told:
            _LOGGER.warning("%s", problem)
            told = problem
        await asyncio.sleep(wait)


@asynccontextmanager
async def answering_the_watchdog(port: int) -> AsyncIterator[None]:
    """Answer `/healthz` while there is no bridge: a new start would not bring a broker.

    Raises:
        StartError: the port is taken.
    """
    waiting = web.Application()
    waiting.router.add_get("/healthz", _alive)
    waiting.router.add_route("*", "/{tail:.*}", _not_yet)
    runner = web.AppRunner(waiting, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104  the Supervisor asks from outside
        except OSError as error:
            raise StartError(f"cannot listen on port {port}: {error.strerror}") from None
        yield
    finally:
        await runner.cleanup()


async def _alive(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _not_yet(_request: web.Request) -> web.Response:
    return web.json_response({"status": "not ready", "checks": {"broker": "not known yet"}}, status=503)
