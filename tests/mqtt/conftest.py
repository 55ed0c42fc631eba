"""Fixtures of the tests over MQTT."""

import pytest

from tests.support.mqtt_connection import Protocol


@pytest.fixture(params=["5", "3.1.1"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each version of MQTT that the bridge speaks."""
    value: Protocol = request.param
    return value
