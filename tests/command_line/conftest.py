"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest
import yaml

from tests.support.bridge_process import configuration
from tests.support.ports import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration. No bridge runs on it."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(free_port())))
    return tmp_path
