"""The core: which terminals are known and connected, commands on their way to them, and what happened.

It knows no face (MQTT, HTTP, the terminals' WebSocket): they call it, and hear of everything else through events.
"""
