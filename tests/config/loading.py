"""Loads a configuration from text."""

from pathlib import Path

import pytest

from bridge.config.faults import ConfigurationError
from bridge.config.load import load_settings
from bridge.config.settings import Settings

CREDENTIALS = "terminals: {username: dev, password: secret}\n"
"""The smallest valid configuration."""


def load(folder: Path, text: str, environment: dict[str, str] | None = None) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    return load_settings(file, environment or {})


def faults_of(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, environment)
    return [str(fault).removeprefix(f"{folder}/") for fault in caught.value.faults]
