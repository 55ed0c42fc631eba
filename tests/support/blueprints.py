"""Blueprints in a real Home Assistant: imported by their address as its users do, and used."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp
from aiohttp import web

from tests.support.home_assistant import HomeAssistant, HomeAssistantApi

EXAMPLES = Path(__file__).parents[2] / "examples" / "home-assistant"
BLUEPRINTS = EXAMPLES / "blueprints"

Domain = Literal["automation", "script"]


def add_visitors_package(folder: Path) -> str:
    """Copy the helpers of the visitors' form into a configuration folder, and return the lines that load them."""
    file = EXAMPLES / "packages" / "facebridge_visitors.yaml"
    (folder / "packages").mkdir()
    shutil.copy(file, folder / "packages")
    _, _, lines = file.read_text().partition("In configuration.yaml:\n#\n")
    return "".join(line.removeprefix("#   ") + "\n" for line in lines.partition("#\n")[0].splitlines())


async def import_blueprint(api: HomeAssistantApi, file: Path) -> str:
    """Import a blueprint from an address on the web, as the button in the docs does; returns what it is filed under."""
    async with _served(file) as url:
        found = await api.call("blueprint/import", url=url)
        assert not found["validation_errors"], found
        domain = found["blueprint"]["metadata"]["domain"]
        path = f"{found['suggested_filename']}.yaml"
        await api.call(
            "blueprint/save", domain=domain, path=path, yaml=found["raw_data"], source_url=url, allow_override=True
        )
    return path


@asynccontextmanager
async def used(
    home_assistant: HomeAssistant, api: HomeAssistantApi, domain: Domain, name: str, inputs: Mapping[str, Any]
) -> AsyncIterator[str]:
    """Make an automation or script of the blueprint of that name, and delete it in the end.

    Args:
        home_assistant: where.
        api: a connection to it.
        domain: of the blueprint.
        name: of its file, without the ending; the automation is called so too.
        inputs: of the blueprint.

    Yields:
        The entity id.
    """
    path = await import_blueprint(api, BLUEPRINTS / domain / "facebridge" / f"{name}.yaml")
    made = {"alias": name, "use_blueprint": {"path": path, "input": dict(inputs)}}
    url = f"{home_assistant.url}/api/config/{domain}/config/{name}"
    entity_id = f"{domain}.{name}"
    async with AsyncExitStack() as leaving:
        headers = {"Authorization": f"Bearer {home_assistant.token}"}
        http = await leaving.enter_async_context(aiohttp.ClientSession(headers=headers))
        async with http.post(url, json=made) as answer:
            assert answer.status == 200, await answer.text()

        async def delete() -> None:
            async with http.delete(url) as answer:
                assert answer.status == 200, await answer.text()

        leaving.push_async_callback(delete)
        await api.until_state(entity_id, "on" if domain == "automation" else "off")
        yield entity_id


@asynccontextmanager
async def _served(file: Path) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=file.read_text())

    app = web.Application()
    app.router.add_get(f"/facebridge/{file.name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/facebridge/{file.name}"
    finally:
        await runner.cleanup()
