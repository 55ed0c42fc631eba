"""Benchmarks: the product beside other bridges in the same run. docs/performance.md describes them."""
