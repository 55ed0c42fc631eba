"""Simulated terminals, an embedded broker and generated portraits, for trying out, for load and for tests.

A simulated terminal follows docs/protocol.md as strictly as the bridge does, and misbehaves on request.
"""
