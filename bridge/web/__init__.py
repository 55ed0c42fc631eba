"""Adapter: the bridge over HTTP (docs/http.md). One file per resource; commands come from the core's table."""
