"""Adapter: the WebSocket server that the terminals connect to (docs/protocol.md)."""
