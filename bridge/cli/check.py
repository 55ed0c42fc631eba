"""`facebridge check --connect`: tries what the configuration names, beside a running bridge without disturbing it."""

import secrets
from dataclasses import dataclass

from bridge.config.settings import MqttSettings, Settings, StoreSettings
from bridge.core.clock import Clock
from bridge.doctor.ports import look_at_port
from bridge.doctor.probe import probing
from bridge.mqtt.client.messages import NotConnectedError
from bridge.store.check import check_store


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of trying one thing.

    Attributes:
        what: was tried.
        fine: whether it works.
        message: how it is, or what is wrong.
    """

    what: str
    fine: bool
    message: str


async def check_surroundings(settings: Settings) -> list[CheckResult]:
    """Try the broker, the store and the listening ports."""
    return [
        await _check_broker(settings.mqtt),
        await _check_store(settings.store),
        await _check_port("terminals.port", settings.terminals.host, settings.terminals.port),
        await _check_port("web.port", settings.web.host, settings.web.port),
    ]


async def _check_broker(settings: MqttSettings) -> CheckResult:
    if settings.host is None:
        return CheckResult("broker", fine=True, message="an embedded one is used, for trying out only")
    # An id of its own: with the bridge's, the broker would throw a running one out.
    client_id = f"{settings.client_id}-check-{secrets.token_hex(4)}"
    try:
        async with probing(settings, client_id, Clock()):
            pass
    except NotConnectedError as error:
        return CheckResult("broker", fine=False, message=str(error))
    return CheckResult(
        "broker", fine=True, message=f"connected to {settings.host}:{settings.port} with MQTT {settings.protocol}"
    )


async def _check_store(settings: StoreSettings) -> CheckResult:
    problem = await check_store(settings.url.reveal())
    return CheckResult("store", problem is None, problem or f"{settings.shown_url} can be used")


async def _check_port(key: str, host: str, port: int) -> CheckResult:
    if port == 0:
        return CheckResult(key, fine=True, message="a free port is taken when the bridge starts")
    state = await look_at_port(host, port)
    how = "in use by a running Facebridge" if state.bridge_running else "free"
    return CheckResult(key, fine=state.problem is None, message=state.problem or f"{host}:{port} is {how}")
