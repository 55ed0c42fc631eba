"""The page: HTML for people, rendered on the server, that works without JavaScript too (docs/page.md)."""
