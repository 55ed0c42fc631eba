"""The bridges that a benchmark compares."""
