"""Photos of persons: read from where users give them, converted for the terminals, deleted when unused."""

MAXIMUM_SIDE_PIXELS = 1080
"""Of a photo's width and of its height (docs/protocol.md)."""

MINIMUM_SIDE_PIXELS = 32
"""Of the shorter side, before and after the conversion (docs/mqtt.md)."""
