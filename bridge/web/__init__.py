"""Face: the bridge over HTTP (CONTRACT, section 6). A file per resource; commands come from the hub's table."""
