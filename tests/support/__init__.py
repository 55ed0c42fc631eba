"""Real systems, clients and helpers that several tests share."""
