"""Delivery of persons to terminals."""
