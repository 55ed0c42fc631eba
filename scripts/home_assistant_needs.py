"""Print what integrations of Home Assistant, and those it always starts, need from pip: `--skip-pip` starts it then."""

import json
import sys
from pathlib import Path

from homeassistant import bootstrap, components

integrations = Path(next(iter(components.__path__)))
ahead = {*sys.argv[1:], *bootstrap.CORE_INTEGRATIONS, *bootstrap.DEFAULT_INTEGRATIONS}
seen: set[str] = set()
requirements: set[str] = set()
while ahead:
    domain = ahead.pop()
    seen.add(domain)
    manifest = json.loads((integrations / domain / "manifest.json").read_text())
    requirements.update(manifest.get("requirements", []))
    ahead |= {*manifest.get("dependencies", [])} - seen
print(*sorted(requirements))
