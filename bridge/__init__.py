"""Facebridge: face-recognition door terminals on MQTT."""

__version__ = "0.1.0"
