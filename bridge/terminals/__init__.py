"""Face: the WebSocket server the terminals connect to (CONTRACT, section 8)."""
