"""The app's Dockerfile, built without a container engine, and the image's command from its start to an opened door.

Same as in the real image: the assembled tree, every instruction of the Dockerfile in order, pip's choice of wheels for
CPython 3.13 on glibc of Debian trixie, the resulting layer, and the command as the first process of a container, with
the ports, folders, names and options that it has in Home Assistant, and without capabilities.

Different: the base image. It is Debian trixie from debootstrap, with Debian's Python 3.13 in an environment in
/usr/local, whereas the image in FROM has its own Python 3.13 and pip. So the test proves nothing about that image, its
digest, or other architectures. AppArmor is not enforced, and the Supervisor is a stand-in.
"""

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pillow_heif
import pytest
import yaml
from PIL import Image

from bridge import __version__
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.home_assistant_app.app_process import TOKEN, SupervisorStandIn, mqtt_service, shown_password
from tests.home_assistant_app.assembled import assemble
from tests.home_assistant_app.container import Container, SteppedImage
from tests.home_assistant_app.dockerfile import Folder, Run, UnknownStepError, read_dockerfile
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.network import Host

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "ha_addon" / "config.yaml").read_text())
TERMINALS_PORT = 8765
ARCHITECTURE = {"x86_64": "amd64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
ALLOWED_PATHS = re.compile(r"usr(/local(/(bin|include|lib|share)(/.*)?)?)?|data|tmp")
"""Paths that the Dockerfile's steps may write: installed packages, and empty folders."""
ARGUMENTS = {"BUILD_VERSION": __version__, "BUILD_ARCH": ARCHITECTURE}


def base_like(named: str) -> Path:
    """Return the folder of a base like the one that FROM names."""
    base = os.environ.get("APP_BASE")
    assert base, "APP_BASE is not set; scripts/test --all makes a base and sets it"
    release = re.search(r"^VERSION_CODENAME=(.+)$", (Path(base) / "etc/os-release").read_text(), re.MULTILINE)
    assert release is not None
    python = (Path(base) / "usr/local/bin/python").readlink().name
    assert re.match(rf"{python.replace('python', 'python:')}\.\d+-slim-{release[1]}@", named), (
        f"scripts/app-base makes {release[1]} with {python}, and the Dockerfile is built on {named}"
    )
    return Path(base)


async def status_of(host: Host, watchdog: str) -> int:
    """Return the HTTP status of a request of the Supervisor's watchdog."""
    url = re.sub(r"\[PORT:(\d+)\]", r"\1", watchdog.replace("[HOST]", host.inside))
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status


def privileges_of(pid: int) -> Mapping[str, str]:
    """Return user and capabilities of a process."""
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in lines if name in ("Uid", "CapEff", "CapBnd", "NSpid")}


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_from_the_dockerfile_to_an_opened_door(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    made = assemble(tmp_path / "tree")
    assert made.returncode == 0, made.stderr
    context = tmp_path / "tree" / "facebridge"
    recipe = read_dockerfile((context / "Dockerfile").read_text(), ARGUMENTS)
    assert recipe.labels["io.hass.version"] == __version__
    assert recipe.labels["io.hass.arch"] in CONFIG["arch"]
    image = SteppedImage(recipe, base_like(recipe.base), context, tmp_path / "image")
    async with image.built(), Host().linked() as host:
        written = image.layer("image")
        others = {path for path in written if not ALLOWED_PATHS.fullmatch(path)}
        assert not others, "the image contains more than Python packages: caches, compilers, leftovers"
        record_property("counts", f"{sum(written.values()) / 1e6:.0f} MB in {len(written)} files beside the base")

        data, media = tmp_path / "data", tmp_path / "media"
        for folder in (data, media, tmp_path / "share", tmp_path / "config"):
            folder.mkdir()
        (data / "options.json").write_text(json.dumps(CONFIG["options"]))
        (data / "options.json").chmod(0o600)
        pillow_heif.from_pillow(Image.effect_noise((640, 480), 64).convert("RGB")).save(media / "li-lei.heic")
        broker = Mosquitto(tmp_path, [f"listener 1883 {host.outside}"], anonymous=False)
        broker.set_passwords({"addons": "from-the-supervisor", "test": "test"})
        container = Container(image, host.name, {"SUPERVISOR_TOKEN": TOKEN, "TZ": "Asia/Shanghai"})
        await container.make(
            {"supervisor": host.outside, "core-mosquitto": host.outside},
            {"/data": data},
            {"/media": media, "/share": tmp_path / "share", "/config": tmp_path / "config"},
        )
        engine_made = image.layer("container")
        async with SupervisorStandIn(host.outside, 80).running() as supervisor, broker, container.running():
            await container.wait_log("Home Assistant has no MQTT service yet")
            assert await status_of(host, CONFIG["watchdog"]) == 200
            supervisor.service = mqtt_service(1883, host="core-mosquitto")
            await container.wait_log("MQTT core-mosquitto:1883, web")
            assert await status_of(host, CONFIG["watchdog"]) == 200
            privileges = privileges_of(container.first_child())
            assert privileges["Uid"] == "0\t0\t0\t0", "the Supervisor writes options.json for root alone"
            assert int(privileges["CapEff"], 16) == int(privileges["CapBnd"], 16) == 0
            assert privileges["NSpid"].split()[1:] == ["1"]
            await open_a_door(container, host, broker)
            for command in (CONFIG["backup_pre"], CONFIG["backup_post"]):
                assert await container.command(*command.split()) == (0, "")
            # This works in any folder, because an environment variable of the image names the configuration.
            code, audit = await container.command("env", "--chdir=/", "facebridge", "log")
            assert code == 0, audit
            assert "open" in audit
            assert await container.stop() == 0
        new = image.layer("container").keys() - engine_made.keys()
        assert not {path for path in new if not re.match(r"tmp(/|$)", path)}, "the app writes only to /data and /tmp"
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(tmp_path) in line]
    assert "Traceback" not in container.log
    assert " ERROR " not in container.log


async def open_a_door(container: Container, host: Host, broker: Mosquitto) -> None:
    """Follow the first steps of DOCS.md."""
    password = shown_password(container.log)
    url = f"ws://{host.inside}:{TERMINALS_PORT}/devs/"
    terminal = SimulatedTerminal(
        url,
        "T1",
        options=ConnectionOptions(username="dev", password=password, first_retry_seconds=0.05, max_retry_seconds=0.2),
    )
    async with (
        terminal.running() as door,
        mqtt_client(broker.port, "facebridge/terminal/T1/reply", login=("test", "test")) as client,
    ):
        assert await door.wait_refused() == 403
        await client.publish("facebridge/bridge/admit/set", {"sn": "T1", "name": "Front door"})
        await door.wait_connected()
        await client.publish("facebridge/terminal/T1/open/set", {"request_id": "open"})
        reply = await client.wait_for("facebridge/terminal/T1/reply", lambda one: one.json["request_id"] == "open")
        assert reply.json["outcome"] == "ok"
        assert door.opened == 1
        person = {"id": "1001", "name": "Li Lei", "photo_file": "/media/li-lei.heic", "request_id": "enrol"}
        await client.publish("facebridge/terminal/T1/person/set", person)
        await client.wait_for(
            "facebridge/terminal/T1/reply",
            lambda one: one.json["outcome"] == "ok" and one.json["request_id"] == "enrol",
        )
        assert door.persons.keys() == {"1001"}


def test_a_dockerfile_is_read_like_docker_does() -> None:
    recipe = read_dockerfile(
        '# a comment\nFROM base:1\nARG V\nENV A=1 B="x y"\nWORKDIR /work\nRUN --mount=type=bind,target=/src one \\\n'
        '# between\n  && two "$A"\nLABEL v="${V}" a=$A\nCMD ["python", "-m", "x"]\n',
        {"V": "7"},
    )
    assert recipe.base == "base:1"
    run = recipe.steps[1]
    assert isinstance(run, Run)
    assert recipe.steps[0] == Folder("/work")
    assert (run.command.split(), run.context, run.folder) == (["one", "&&", "two", '"$A"'], "/src", "/work")
    assert run.environment.items() >= {"A": "1", "B": "x y", "V": "7"}.items()
    assert "V" not in recipe.environment
    assert recipe.labels == {"v": "7", "a": "1"}
    assert recipe.command == ["python", "-m", "x"]


@pytest.mark.parametrize(
    "line",
    [
        "COPY . /x", "USER nobody", "HEALTHCHECK CMD true", "FROM other", "RUN --network=none true", 'RUN ["true"]',
        "RUN <<END", "RUN --mount=type=cache,target=/x true", "RUN --mount=type=bind,target=/x,rw true", "CMD python",
        "ENV A 1", "ENV A=$UNKNOWN", "ARG V=1", "WORKDIR $HOME", "LABEL a=$ARG",
    ],
)  # fmt: skip
def test_unsupported_instructions_are_errors(line: str) -> None:
    with pytest.raises(UnknownStepError):
        read_dockerfile(f"FROM base\n{line}\n", {})
