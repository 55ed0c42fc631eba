"""The run of the app: options, broker, configuration, then the bridge."""

import asyncio
import json
import logging
import os
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bridge import __version__
from bridge.app import StartError, run_bridge
from bridge.cli.logs import announce, set_up_logging
from bridge.config.faults import ConfigurationError
from bridge.config.load import SECRETS_FILE, load_settings
from bridge.config.secrets_file import ensure_secrets_file, what_to_enter
from bridge.config.settings import Settings
from bridge.home_assistant_app.backup_hooks import RestoreError, restore_from_backup, second_name_at_end
from bridge.home_assistant_app.options import (
    AppOptions,
    Container,
    configuration_of,
    named_by_option,
    option_fault,
    read_options,
)
from bridge.home_assistant_app.supervisor import TOKEN, MqttService, Supervisor
from bridge.home_assistant_app.waiting import answering_the_watchdog, wait_for_broker
from bridge.model.secret import Secret

_LOGGER = logging.getLogger(__name__)

_PLACEHOLDER_BROKER = MqttService(host="core-mosquitto", port=1883, username=None, password=None, tls=False)
"""Used to check the options before the broker is known, so that their faults are reported at once."""

_NO_SUPERVISOR = (
    f"{TOKEN} is not set: Home Assistant did not start this app. Set mqtt.host, or run Facebridge without the app"
)


_SHOWN_ONCE = (
    "This random password is shown only once; to choose one, set terminals.password on the app's Configuration page"
)


class _Secret(str):
    """The name of an entry in `secrets.yaml`."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes a `_Secret` as `!secret name`."""


_Dumper.add_representer(_Secret, lambda dumper, name: dumper.represent_scalar("!secret", str(name)))


async def run_app(container: Container, supervisor_url: str, environment: Mapping[str, str]) -> int:
    """Run the app until SIGTERM or SIGINT.

    Args:
        container: folders and ports.
        supervisor_url: the URL of the Supervisor.
        environment: of the process.

    Returns:
        The exit code: 0 stopped, 1 cannot start, 2 the options are wrong.
    """
    handler = set_up_logging("info", "text")
    announce(handler, f"Facebridge {__version__}")
    with second_name_at_end(container):
        try:
            _let_signals_cancel()
            await restore_from_backup(container)
            settings = await _settings(container, supervisor_url, environment)
            handler = set_up_logging(settings.logging.level, settings.logging.format)
            await run_bridge(settings, announce=lambda line: announce(handler, line))
        except asyncio.CancelledError:
            return 0
        except ConfigurationError as error:
            faults = named_by_option(error, container).faults
            lines = [f"option {fault.path}: {fault.message}" if fault.path else fault.message for fault in faults]
            return _fail(2, *lines, "correct this on the app's Configuration page, then start the app again")
        except (RestoreError, StartError) as error:
            return _fail(1, str(error))
    return 0


def _fail(code: int, *lines: str) -> int:
    for line in lines:
        _LOGGER.error("%s", line)
    return code


async def _settings(container: Container, supervisor_url: str, environment: Mapping[str, str]) -> Settings:
    options = read_options(_read_json(container.data / "options.json"))
    needs_service = "mqtt.host" not in options
    settings, message = _load(options, container, _PLACEHOLDER_BROKER if needs_service else None)
    if message:
        _LOGGER.warning("%s", message)
    if not needs_service:
        return settings
    token = environment.get(TOKEN)
    if not token:
        raise StartError(_NO_SUPERVISOR)
    async with answering_the_watchdog(container.web_port):
        service = await wait_for_broker(Supervisor(supervisor_url, Secret(token)))
    return _load(options, container, service)[0]


def _load(options: AppOptions, container: Container, service: MqttService | None) -> tuple[Settings, str]:
    """Write the configuration file, and load it as `facebridge` does.

    Returns:
        The settings, and a message with the terminals' login if a password was generated; "" otherwise.

    Raises:
        ConfigurationError: the options are wrong.
        StartError: the file cannot be written.
    """
    document = configuration_of(options, container, service)
    terminals = document["terminals"]
    generated = None
    try:
        if terminals.get("username") is not None and terminals.get("password") is None:
            terminals["password"] = _Secret("terminal_password")
            generated = ensure_secrets_file(container.configuration)
        _write_privately(container.configuration, yaml.dump(document, Dumper=_Dumper, allow_unicode=True))
    except OSError as error:
        raise StartError(f"{container.data} cannot be written: {error.strerror}") from None
    try:
        # The container's environment is not the user's, so it must not change the configuration.
        settings = load_settings(container.configuration, {})
    except ConfigurationError:
        if generated is not None:
            # The generated password was not shown yet: the next start generates a new one.
            (container.data / SECRETS_FILE).unlink()
        raise
    if generated is None:
        return settings, ""
    return settings, what_to_enter(settings.terminals, generated, "ADDRESS-OF-HOME-ASSISTANT") + _SHOWN_ONCE


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise StartError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError([option_fault("", f"{file} is not JSON")]) from None


def _write_privately(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _let_signals_cancel() -> None:
    """Let SIGTERM and SIGINT cancel this task; the running bridge replaces these handlers."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
