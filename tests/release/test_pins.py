"""Actions and base images are pinned by digest, and renewed by Dependabot."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
IMAGES = ("Dockerfile", "ha_addon/Dockerfile", "examples/broker/compose.yaml")
PARTS = ("bridge", "docs", "examples", "ha_addon", "scripts", "tools")
"""Folders that users get or that make what users get."""
DIGEST = r"@sha256:[0-9a-f]{64}"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit_with_its_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.+)", workflow.read_text())
    assert used
    for action in used:
        # Dependabot reads and writes the version in the comment.
        assert re.match(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+\b", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_only_the_permissions_that_its_jobs_name(workflow: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(workflow.read_text())
    assert content["permissions"] in ({}, {"contents": "read"})
    for job in content["jobs"].values():
        for image in job.get("strategy", {}).get("matrix", {}).get("debian", []):
            assert re.fullmatch(rf"\w+{DIGEST}", image)


def test_every_file_that_names_an_image_is_checked() -> None:
    files = [ROOT / "Dockerfile", *(file for part in PARTS for file in (ROOT / part).rglob("*") if file.is_file())]
    naming = {
        str(file.relative_to(ROOT))
        for file in files
        if re.match(r"Dockerfile|.*\.ya?ml$", file.name)
        and re.search(r"^(?:FROM|    image:) \S+", file.read_text(), re.MULTILINE)
    }
    assert naming == set(IMAGES)


@pytest.mark.parametrize("file", IMAGES)
def test_images_are_pinned_to_a_version_and_a_digest(file: str) -> None:
    text = (ROOT / file).read_text()
    stages = set(re.findall(r" AS (\w+)$", text, re.MULTILINE))
    images = re.findall(r"^(?:FROM|    image:) (\S+)", text, re.MULTILINE)
    assert images
    for image in images:
        assert image in stages or re.fullmatch(rf"[\w./-]+:\d+\.\d+\.\d+[\w.-]*{DIGEST}", image), image


def test_both_images_have_the_same_base() -> None:
    first, second = (re.findall(r"^FROM (\S+)", (ROOT / file).read_text(), re.MULTILINE)[0] for file in IMAGES[:2])
    assert first == second


def test_dependabot_renews_each_of_them() -> None:
    config: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())
    folders = {
        (update["package-ecosystem"], folder)
        for update in config["updates"]
        for folder in update.get("directories", [update.get("directory")])
    }
    assert folders == {
        ("github-actions", "/"),
        ("docker", "/"),
        ("docker", "/ha_addon"),
        ("docker-compose", "/examples/broker"),
    }
