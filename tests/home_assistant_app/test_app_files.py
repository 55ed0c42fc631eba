"""The app's files follow the Supervisor's rules and describe the code."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from PIL import Image

from bridge import __version__
from bridge.home_assistant_app.backup_hooks import AT_REST, BACKUP
from bridge.home_assistant_app.options import KEYS
from tests.home_assistant_app import supervisor_rules as rules
from tests.home_assistant_app.assembled import assemble

ROOT = Path(__file__).parents[2]
APP = ROOT / "ha_addon"
CONFIG: dict[str, Any] = yaml.safe_load((APP / "config.yaml").read_text())
LANGUAGES = ("en", "zh-Hans")


def test_all_required_keys_are_there_and_none_that_the_supervisor_drops() -> None:
    assert CONFIG.keys() >= rules.REQUIRED
    assert CONFIG.keys() <= rules.KEYS
    assert rules.SLUG.fullmatch(CONFIG["slug"])
    assert set(CONFIG["arch"]) == rules.ARCHITECTURES
    assert CONFIG["startup"] in rules.STARTUPS
    assert CONFIG["stage"] in rules.STAGES
    assert CONFIG["url"].startswith("https://")
    assert CONFIG["init"] is False
    assert all(rules.SERVICE.fullmatch(one) for one in CONFIG["services"])
    assert all(rules.IMAGE_PART.fullmatch(part) for part in CONFIG["image"].split("/"))


def test_the_assembled_app_has_the_version_of_the_bridge(tmp_path: Path) -> None:
    assert CONFIG["version"] == "0", "bridge/__init__.py is the only place that contains the version"
    assemble(tmp_path)
    assembled = yaml.safe_load((tmp_path / "facebridge" / "config.yaml").read_text())
    assert assembled == CONFIG | {"version": __version__}


def test_the_app_requests_no_privilege() -> None:
    assert not CONFIG.keys() & rules.PRIVILEGES
    assert CONFIG["apparmor"] is True


def test_mapped_folders_are_read_only() -> None:
    assert {one["type"] for one in CONFIG["map"]} == {"media", "share", "app_config"} <= rules.MAPPED
    assert all(one["read_only"] is True for one in CONFIG["map"])
    paths = [one["path"] for one in CONFIG["map"] if "path" in one]
    assert len(paths) == len(set(paths))
    assert "/" not in paths


def test_ports_are_described_and_watched() -> None:
    assert all(rules.PORT.fullmatch(port) for port in CONFIG["ports"])
    assert CONFIG["ports"].keys() == CONFIG["ports_description"].keys()
    assert CONFIG["ports"]["8099/tcp"] is None, "the HTTP API is off by default"
    assert rules.WATCHDOG.fullmatch(CONFIG["watchdog"])
    assert CONFIG["watchdog"].endswith("[PORT:8099]/healthz")


def test_options_have_valid_types() -> None:
    for path, kind, depth in rules.types(CONFIG["schema"]):
        assert rules.TYPE.fullmatch(kind), path
        assert depth <= rules.DEPTH, path


def test_the_default_options_are_valid() -> None:
    assert rules.accept(CONFIG["schema"], CONFIG["options"]) == CONFIG["options"]


def test_every_default_belongs_to_an_option() -> None:
    known = {path for path, _, _ in rules.types(CONFIG["schema"])} | {("known_terminals",)}
    for section, values in CONFIG["options"].items():
        for path in [(section, name) for name in values] if isinstance(values, dict) else [(section,)]:
            assert path in known


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_option_and_port_is_translated_and_nothing_else(language: str) -> None:
    translation = yaml.safe_load((APP / "translations" / f"{language}.yaml").read_text())
    assert translation.keys() == {"configuration", "network"}
    assert translation["network"].keys() == CONFIG["ports"].keys()
    assert _translated(translation["configuration"]) == _wanted(CONFIG["schema"])
    for text in _texts(translation):
        assert text.strip()


def test_the_translations_differ() -> None:
    english, chinese = ((APP / "translations" / f"{language}.yaml").read_text() for language in LANGUAGES)
    descriptions = re.findall(r"description: (.+)", chinese)
    assert all(re.search(r"[\u4e00-\u9fff]", one) for one in descriptions)
    assert not re.search(r"[\u4e00-\u9fff]", english)


def test_there_are_no_other_languages() -> None:
    assert {file.stem for file in (APP / "translations").iterdir()} == set(LANGUAGES)


def test_every_option_is_documented() -> None:
    table = (APP / "DOCS.md").read_text().partition("| option | default | meaning |")[2].partition("\n\n")[0]
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([a-z_.]+)`", row)
    }
    assert documented == set(KEYS)


def test_pictures_have_the_required_sizes() -> None:
    with Image.open(APP / "icon.png") as icon, Image.open(APP / "logo.png") as logo:
        assert (icon.format, icon.size) == ("PNG", (128, 128))
        assert logo.format == "PNG"
        assert logo.height == 100
        assert 250 <= logo.width <= 500


def test_the_apparmor_profile_has_the_apps_name_and_grants_no_capability() -> None:
    profile = (APP / "apparmor.txt").read_text()
    assert rules.profile_names(profile) == [CONFIG["slug"]]
    given = re.findall(r"^  (?!#)(.*),$", profile, re.MULTILINE)
    assert not [rule for rule in given if rule.startswith(("capability", "mount", "ptrace", "file", "network raw"))]
    for folder in ("/config", "/media", "/share"):
        assert [rule for rule in given if rule.startswith(folder)] == [f"{folder}/{{,**}} r"]


@pytest.mark.slow
def test_the_apparmor_profile_can_be_loaded(tmp_path: Path) -> None:
    parsed = subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--warn=all", str(APP / "apparmor.txt")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (parsed.returncode, parsed.stdout) == (0, ""), parsed.stderr


@pytest.mark.parametrize(
    ("file", "kept"),
    [
        ("facebridge.db", False), ("facebridge.db-wal", False), ("facebridge.db-shm", False),
        ("facebridge.db.lock", False), (f".{BACKUP}.x1/backup.db", False), ("config.yaml", False),
        (BACKUP, True), (AT_REST, True), ("secrets.yaml", True), ("options.json", True),
    ],
)  # fmt: skip
def test_backups_include_what_a_restore_needs_and_no_database_file(file: str, kept: bool) -> None:
    full = PurePosixPath("/data/apps/data/5d2c_facebridge") / file
    # The Supervisor checks a folder before its files (supervisor/apps/app.py, _is_excluded_by_filter).
    checked = [full, *[parent for parent in full.parents if "facebridge." in parent.name]]
    assert kept != any(one.match(pattern) for one in checked for pattern in CONFIG["backup_exclude"])


def test_the_backup_commands_exist() -> None:
    for key in ("backup_pre", "backup_post"):
        python, *words = CONFIG[key].split()
        assert python == "python"
        done = subprocess.run([sys.executable, *words, "--help"], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr


def test_the_repository_has_its_metadata() -> None:
    repository = yaml.safe_load((ROOT / "repository.yaml").read_text())
    assert repository["name"]
    assert repository["url"].startswith("https://")
    assert repository.keys() <= {"name", "url", "maintainer"}


def test_the_base_image_is_pinned_and_the_labels_are_there() -> None:
    dockerfile = (APP / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (.+)$", dockerfile, re.MULTILINE)
    assert len(bases) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])
    assert "BUILD_FROM" not in dockerfile
    for label in ("io.hass.type", "io.hass.version", "io.hass.arch"):
        assert f"{label}=" in dockerfile
        assert f"{label}=" in (ROOT / ".github" / "workflows" / "app.yml").read_text()


def test_the_workflow_builds_every_architecture() -> None:
    workflow = (ROOT / ".github" / "workflows" / "app.yml").read_text()
    assert set(re.findall(r"arch: (\w+)", workflow)) == rules.ARCHITECTURES


@pytest.mark.slow
def test_the_assembled_tree_contains_one_config_and_the_files_of_the_image(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    made = assemble(tree)
    assert made.returncode == 0, made.stderr
    # The Supervisor searches in this way (supervisor/store/data.py).
    assert [str(file.relative_to(tree)) for file in tree.glob("**/config.*")] == ["facebridge/config.yaml"]
    assert (tree / "repository.yaml").is_file()
    app = tree / "facebridge"
    for name in ("Dockerfile", "apparmor.txt", "requirements.lock", "DOCS.md", "README.md", "CHANGELOG.md", "icon.png"):
        assert (app / name).is_file()
    (wheel,) = app.glob("facebridge-*.whl")
    assert "bridge/home_assistant_app/entry.py" in zipfile.ZipFile(wheel).namelist()
    again = assemble(tree)
    assert again.returncode == 1
    assert "is not empty" in again.stderr


def _wanted(schema: Any) -> dict[str, Any]:
    """Return the names of a schema as a tree."""
    inner = schema[0] if isinstance(schema, list) else schema
    return {name: _wanted(one) for name, one in inner.items()} if isinstance(inner, dict) else {}


def _translated(fields: dict[str, Any]) -> dict[str, Any]:
    for name, one in fields.items():
        assert one.keys() <= {"name", "description", "fields"}, name
        assert one.keys() >= {"name", "description"}, name
    return {name: _translated(one.get("fields", {})) for name, one in fields.items()}


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [text for one in value.values() for text in _texts(one)]
