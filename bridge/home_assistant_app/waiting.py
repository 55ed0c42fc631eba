"""Waiting for the broker: repeated requests to the Supervisor, and answers to the watchdog meanwhile."""

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

_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 1.0, 30.0
"""Time until the next request, doubled each time: the Supervisor may be starting or updating."""

_SERVICE_CHECK_SECONDS = 5.0
"""Time between two requests while no app provides the service, so that a new broker is used soon."""

_MAX_REFUSALS = 3
"""Refusals in a row that mean a wrong token, which only a new start replaces; a starting Supervisor refuses once."""

_NO_SERVICE = (
    "Home Assistant has no MQTT service yet. Install the Mosquitto broker app (Settings > Apps) and start it, or set"
    " mqtt.host on this app's Configuration page. Waiting for it"
)
_REFUSED = "the Supervisor %s; start this app again, and if that does not help, reinstall it"


async def wait_for_broker(supervisor: Supervisor) -> MqttService:
    """Return the broker as soon as there is one; logs each new reason to wait once.

    Raises:
        StartError: the Supervisor rejects the app's token.
    """
    logged, retry, refusals = "", _FIRST_RETRY_SECONDS, 0
    while True:
        try:
            service = await supervisor.mqtt_service()
        except NoMqttServiceError:
            problem, wait = _NO_SERVICE, _SERVICE_CHECK_SECONDS
        except SupervisorAwayError as error:
            problem, wait = f"the Supervisor {error}; trying again", retry
            retry = min(retry * 2, _MAX_RETRY_SECONDS)
        except SupervisorRefusedError as error:
            refusals += 1
            if refusals == _MAX_REFUSALS:
                raise StartError(_REFUSED % error) from None
            problem, wait = f"the Supervisor {error}; trying again", _FIRST_RETRY_SECONDS
        else:
            _LOGGER.info("using Home Assistant's MQTT service, %s:%s", service.host, service.port)
            return service
        if problem != logged:
            _LOGGER.warning("%s", problem)
            logged = problem
        await asyncio.sleep(wait)


@asynccontextmanager
async def answering_the_watchdog(port: int) -> AsyncIterator[None]:
    """Answer `/healthz` while the bridge does not run yet, because a restart by the watchdog would not help.

    Raises:
        StartError: the port is in use.
    """
    waiting = web.Application()
    waiting.router.add_get("/healthz", _alive)
    waiting.router.add_route("*", "/{tail:.*}", _not_yet)
    runner = web.AppRunner(waiting, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104  the watchdog connects from outside the container
        except OSError as error:
            raise StartError(f"cannot listen on port {port}: {error.strerror}") from None
        yield
    finally:
        await runner.cleanup()


async def _alive(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _not_yet(_request: web.Request) -> web.Response:
    return web.json_response({"status": "not ready", "checks": {"broker": "not known yet"}}, status=503)
