"""Import and use the blueprints of examples/home-assistant in a Home Assistant."""

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
    """Copy the visitors' helpers into a configuration folder; return the configuration that loads them."""
    file = EXAMPLES / "packages" / "facebridge_visitors.yaml"
    (folder / "packages").mkdir()
    shutil.copy(file, folder / "packages")
    _, _, lines = file.read_text().partition("In configuration.yaml:\n#\n")
    return "".join(line.removeprefix("#   ") + "\n" for line in lines.partition("#\n")[0].splitlines())


async def import_blueprint(api: HomeAssistantApi, file: Path) -> str:
    """Import a blueprint from a URL, as the button in the docs does; return the path under which it is saved."""
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
    """Create an automation or script from a blueprint, and delete it at the end.

    Args:
        home_assistant: the Home Assistant.
        api: a connection to it.
        domain: the blueprint's domain.
        name: the name of its file without the suffix; the automation or script gets the same name.
        inputs: the blueprint's inputs.

    Yields:
        The entity id.
    """
    path = await import_blueprint(api, BLUEPRINTS / domain / "facebridge" / f"{name}.yaml")
    configuration = {"alias": name, "use_blueprint": {"path": path, "input": dict(inputs)}}
    url = f"{home_assistant.url}/api/config/{domain}/config/{name}"
    entity_id = f"{domain}.{name}"
    async with AsyncExitStack() as stack:
        headers = {"Authorization": f"Bearer {home_assistant.token}"}
        http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
        async with http.post(url, json=configuration) as answer:
            assert answer.status == 200, await answer.text()

        async def delete() -> None:
            async with http.delete(url) as answer:
                assert answer.status == 200, await answer.text()

        stack.push_async_callback(delete)
        await api.wait_state(entity_id, "on" if domain == "automation" else "off")
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
