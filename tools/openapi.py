"""The OpenAPI document of the HTTP API."""

from dataclasses import fields
from typing import Any

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.web.api.api import Api
from bridge.web.api.openapi import openapi_document
from bridge.web.context import BridgeStatus, WebLimits, WebServices
from bridge.web.routes import RouteTable


def declared_routes() -> RouteTable:
    """Return the declared routes. Their handlers do not work: they have no services behind them."""
    services: dict[str, Any] = {one.name: None for one in fields(WebServices)}
    status: dict[str, Any] = {one.name: None for one in fields(BridgeStatus)}
    return Api(WebServices(**{**services, "events": EventBus()}), BridgeStatus(**status), Clock(), WebLimits()).routes


def document() -> dict[str, Any]:
    """Return the document."""
    return openapi_document(declared_routes())
