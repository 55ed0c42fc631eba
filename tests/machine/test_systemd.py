"""examples/systemd on a machine that a real systemd has booted: sandbox, restarts, backups, upgrades."""

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.systemd_machine import ENVIRONMENT, PYTHON, SystemdMachine, systemd_machine
from tests.support.wheels import DIES_SOON, NEVER_READY, ROOT, build_wheels

UNITS = ROOT / "examples" / "systemd"
OUTSIDE = "/opt/from-outside"
WITHOUT_NETWORK = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{OUTSIDE}/dependencies", **ENVIRONMENT}
"""pip installs the locked dependencies from a folder: the machine has no network."""

ENROL = """
import base64, json, sys
import paho.mqtt.publish as publish
from bridge.simulator.faces import sample_photo
person = {"id": "p1", "name": "Ada", "photo": base64.b64encode(sample_photo(1)).decode()}
publish.single("facebridge/terminal/T1/person/set", json.dumps(person), qos=1)
"""
REQUEST = """
import json, sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8099" + sys.argv[2], method=sys.argv[1])
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["facebridge.service", "facebridge-backup.service"])
def test_the_services_have_few_permissions(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", UNITS / unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # The threshold is in tenths; above it the exit code is 1.
    assert done.returncode == 0, done.stdout
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) < 2.0


def test_both_services_have_the_same_sandbox() -> None:
    def confinement(unit: str) -> set[str]:
        text = (UNITS / unit).read_text()
        lines = text[text.index("CapabilityBoundingSet=") :].partition("[Install]")[0].splitlines()
        return {line for line in lines if line and not line.startswith("#")}

    assert confinement("facebridge.service") == confinement("facebridge-backup.service")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    versions = {"1.0.0": (), "1.1.0": (), "1.2.0": (NEVER_READY,), "1.3.0": (NEVER_READY,), "1.4.0": (DIES_SOON,)}
    build_wheels(folder, versions, newer_stores=("1.3.0",))
    shutil.copytree(UNITS, folder / "systemd")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--require-hashes",
         "--requirement", ROOT / "requirements.lock", "--dest", folder / "dependencies"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def machine(tmp_path: Path, wheels: Path) -> Iterator[SystemdMachine]:
    """A machine on which Facebridge was installed as README describes, with a broker."""
    (tmp_path / "machine").mkdir()
    with systemd_machine(tmp_path / "machine", wheels) as machine:
        variables = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        for unit in ("facebridge.service", "facebridge-backup.service"):
            machine.write(f"/etc/systemd/system/{unit}.d/tests.conf", f"[Service]\nEnvironment={variables}\n")
        machine.run(f"{OUTSIDE}/systemd/install", wheel("1.0.0"), environment={"PYTHON": PYTHON, **WITHOUT_NETWORK})
        machine.run("mosquitto", "-d")
        machine.run("systemctl", "start", "facebridge")
        yield machine


def wheel(version: str) -> str:
    return f"{OUTSIDE}/facebridge-{version}-py3-none-any.whl"


def python(machine: SystemdMachine, code: str, *words: str, check: bool = True) -> str:
    command = ("/opt/facebridge/current/bin/python", "-c", code, *words)
    return machine.run(*command, environment=ENVIRONMENT, check=check).stdout


def facebridge(machine: SystemdMachine, *words: str) -> str:
    """Run a `facebridge` command as a user of the machine would."""
    environment = {**ENVIRONMENT, "FACEBRIDGE_CONFIG": "/etc/facebridge/config.yaml"}
    return machine.run("runuser", "-u", "facebridge", "--", "facebridge", *words, environment=environment).stdout


def add_terminal(machine: SystemdMachine) -> None:
    """Configure a terminal with a hashed password, and start it."""
    hashed = machine.run("facebridge", "hash-password", environment=ENVIRONMENT, stdin="123\n").stdout
    configuration = machine.run("cat", "/etc/facebridge/config.yaml").stdout
    known = f"  known:\n    T1:\n      username: t1\n      password: '{hashed.strip()}'\n"
    machine.write("/etc/facebridge/config.yaml", configuration.replace("store:", f"{known}store:"))
    machine.run("systemctl", "restart", "facebridge")
    simulate = "/usr/local/bin/facebridge simulate --url ws://t1:123@127.0.0.1:8765/devs/ --sn T1"
    variables = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    machine.write("/etc/systemd/system/terminal.service", f"[Service]\nEnvironment={variables}\nExecStart={simulate}\n")
    machine.run("systemctl", "start", "terminal")


def check_bridge(machine: SystemdMachine) -> None:
    """Check that the door opens and that the enrolled person is stored."""
    machine.wait("/opt/python/bin/python3", "-c", REQUEST, "POST", "/api/terminals/T1/open")
    assert "Ada" in facebridge(machine, "persons", "list")


def version(machine: SystemdMachine) -> str:
    return machine.run("facebridge", "--version", environment=ENVIRONMENT).stdout.split()[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_service_works_in_its_sandbox(machine: SystemdMachine) -> None:
    units = ("facebridge.service", "facebridge-backup.timer", "facebridge-upgrade.timer")
    verified = machine.run("systemd-analyze", "verify", *units)
    assert "facebridge" not in verified.stderr
    add_terminal(machine)
    python(machine, ENROL)
    variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    verify = ["facebridge", "persons", "verify", "--terminal", "T1", "-c", "/etc/facebridge/config.yaml"]
    machine.wait("runuser", "-u", "facebridge", "--", "env", *variables, *verify)
    check_bridge(machine)
    assert "open" in facebridge(machine, "log")
    # The kernel really applies the sandbox.
    pid = machine.show("MainPID")
    status = machine.run("cat", f"/proc/{pid}/status").stdout
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert machine.run("stat", "-c", "%U", f"/proc/{pid}").stdout.strip() == "facebridge"
    limits = machine.run("cat", f"/proc/{pid}/limits").stdout
    # systemd cannot exceed the limit of this machine.
    allowed = min(32768, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert re.search(rf"Max open files\s+{allowed}\s+{allowed}", limits)
    assert "EPERM" not in machine.journal()
    assert "Operation not permitted" not in machine.journal()
    # Only root and the service can read these.
    assert machine.run("stat", "-c", "%U:%G %a", "/etc/facebridge/secrets.yaml").stdout == "root:facebridge 640\n"
    assert machine.run("stat", "-c", "%U %a", "/var/lib/facebridge").stdout == "facebridge 700\n"

    # After a crash systemd restarts it; a stop succeeds.
    machine.run("kill", "-9", pid)
    machine.wait("sh", "-c", f'now=$(systemctl show -P MainPID facebridge); test "$now" != 0 && test "$now" != {pid} '
                 "&& systemctl is-active facebridge")  # fmt: skip
    machine.run("systemctl", "stop", "facebridge")
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")

    # A wrong configuration is logged once, with file, line and key, and not retried.
    machine.write("/etc/facebridge/config.yaml", "mqtt:\n  hots: 127.0.0.1\n")
    assert machine.run("systemctl", "start", "facebridge", check=False).returncode == 1
    assert (machine.show("ActiveState"), machine.show("ExecMainStatus")) == ("failed", "2")
    assert machine.show("NRestarts") == "0"
    assert "/etc/facebridge/config.yaml:2: mqtt.hots" in machine.journal()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_timer_makes_backups_and_keeps_the_newest(machine: SystemdMachine) -> None:
    assert machine.run("systemctl", "is-active", "facebridge-backup.timer").stdout == "active\n"
    assert machine.show("Unit", "facebridge-backup.timer") == "facebridge-backup.service"
    machine.write("/etc/systemd/system/facebridge-backup.service.d/keep.conf", "[Service]\nEnvironment=KEEP=3\n")
    machine.run("systemctl", "daemon-reload")
    folder = "/var/backups/facebridge"
    # Other files stay; leftovers of a killed backup are deleted, because they contain photos.
    machine.run("touch", f"{folder}/notes.db", f"{folder}/facebridge-by-hand.db")
    machine.run("mkdir", f"{folder}/.facebridge-2026-01-01T000000.0Z.db.abc")
    made: list[str] = []
    names: list[str] = []
    for _ in range(5):
        machine.run("systemctl", "start", "facebridge-backup.service")
        names = machine.run("ls", "-A", folder).stdout.split()
        made += [name for name in names if re.fullmatch(r"facebridge-2.*Z\.db", name) and name not in made]
    assert len(made) == 5
    assert names == sorted([*made[2:], "notes.db", "facebridge-by-hand.db", ".lock"])
    assert machine.run("stat", "-c", "%U %a", f"{folder}/{made[-1]}").stdout == "facebridge 600\n"
    # A failed backup deletes no older one, and its failure is visible.
    machine.run("chown", "root", folder)
    assert machine.run("systemctl", "start", "facebridge-backup.service", check=False).returncode == 1
    machine.run("chown", "facebridge", folder)
    assert machine.run("ls", "-A", folder).stdout.split() == names
    machine.run("systemctl", "stop", "facebridge")
    facebridge(machine, "restore", "--yes", f"{folder}/{made[-1]}")
    machine.run("systemctl", "start", "facebridge")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_upgrade_succeeds_or_is_rolled_back(machine: SystemdMachine) -> None:
    upgrade = "/opt/facebridge/bin/facebridge-upgrade"
    environment = {"SETTLE": "5", **WITHOUT_NETWORK}
    add_terminal(machine)
    python(machine, ENROL)
    check_bridge(machine)

    # If the new version cannot be installed or rejects the configuration, the old one keeps running.
    life = machine.show("InvocationID")
    assert machine.run(upgrade, f"{OUTSIDE}/nothing.whl", environment=environment, check=False).returncode == 1
    assert machine.show("InvocationID") == life

    # A dependency that is not the locked one is refused.
    other = machine.outside / "other"
    shutil.copytree(machine.outside / "dependencies", other)
    with next(other.glob("paho_mqtt-*.whl")).open("ab") as changed:
        changed.write(b"another file")
    changed_index = {**environment, "PIP_FIND_LINKS": f"{OUTSIDE}/other"}
    done = machine.run(upgrade, wheel("1.1.0"), environment=changed_index, check=False)
    assert done.returncode == 1
    assert "the old version is still running" in done.stderr, done.stderr
    assert machine.show("InvocationID") == life
    assert machine.run("ls", "/opt/facebridge/versions").stdout.count("\n") == 1

    # The timer upgrades in this way; it is disabled by default.
    assert machine.show("UnitFileState", "facebridge-upgrade.timer") == "disabled"
    assert machine.show("Unit", "facebridge-upgrade.timer") == "facebridge-upgrade.service"
    given = "".join(
        f'Environment="{name}={value}"\n' for name, value in {**environment, "WHAT": wheel("1.1.0")}.items()
    )
    machine.write("/etc/systemd/system/facebridge-upgrade.service.d/what.conf", f"[Service]\n{given}")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "facebridge-upgrade")
    assert version(machine) == "1.1.0"
    check_bridge(machine)
    # Without a newer version the service is not restarted.
    life = machine.show("InvocationID")
    machine.run("systemctl", "start", "facebridge-upgrade")
    assert machine.show("InvocationID") == life
    assert "this version runs already" in machine.journal()

    # Never ready; never ready, with a store that 1.1.0 refuses; ready, but dead two seconds later.
    for broken in ("1.2.0", "1.3.0", "1.4.0"):
        done = machine.run(upgrade, wheel(broken), environment=environment, check=False)
        assert done.returncode == 1, broken
        assert "the old version runs again" in done.stderr, done.stderr
        assert ("restoring" in done.stderr) is (broken == "1.3.0"), done.stderr
        assert version(machine) == "1.1.0"
        check_bridge(machine)
    assert machine.run("ls", "/opt/facebridge/versions").stdout.count("\n") == 2, "the previous version, and this one"
