"""Print the pip requirements of some integrations and of those that Home Assistant always starts, for `--skip-pip`."""

import json
import sys
from pathlib import Path

from homeassistant import bootstrap, components

integrations = Path(next(iter(components.__path__)))
remaining = {*sys.argv[1:], *bootstrap.CORE_INTEGRATIONS, *bootstrap.DEFAULT_INTEGRATIONS}
seen: set[str] = set()
requirements: set[str] = set()
while remaining:
    domain = remaining.pop()
    seen.add(domain)
    manifest = json.loads((integrations / domain / "manifest.json").read_text())
    requirements.update(manifest.get("requirements", []))
    remaining |= {*manifest.get("dependencies", [])} - seen
print(*sorted(requirements))
