"""Collects the documents of the site in one folder: `python -m tools.site FOLDER`. `scripts/site` runs it.

The documents link to each other by paths of the repository, so that GitHub shows them too. In the folder, a link to a
document of the site leads there, and a link to another file of the repository leads to GitHub.
"""

import posixpath
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tools.diagrams import with_pictures

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/facebridge/facebridge"
ADDED = (
    "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "ha_addon/DOCS.md",
    "examples/broker/README.md", "examples/haproxy/README.md", "examples/home-assistant/README.md",
    "examples/monitoring/README.md",
    "examples/nginx/README.md", "examples/node-red/README.md", "examples/systemd/README.md",
    "integrations/node-red/README.md",
)  # fmt: skip
"""Documents outside docs/ that are pages of the site, at the same path."""

_LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\])\(([^)\s]+)\)")
_FOREIGN_PICTURE = re.compile(r"!\[([^\]]*)\]\(https?://[^)\s]+\)")
_CODE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def site_documents(root: Path = ROOT) -> dict[str, Path]:
    """Return the files of the site by their path on it. `README.zh-CN.md` becomes `README.zh.md`."""
    documents = root / "docs"
    found = {path.relative_to(documents).as_posix(): path for path in documents.rglob("*") if path.is_file()}
    for name in ADDED:
        found[name] = root / name
        chinese = name.replace(".md", ".zh-CN.md")
        if (root / chinese).is_file():
            found[chinese.replace(".zh-CN.md", ".zh.md")] = root / chinese
    return found


def with_site_links(text: str, path: str, files: Mapping[str, Path], root: Path = ROOT) -> str:
    """Return the text of a document with the links that it needs on the site.

    Args:
        text: the document.
        path: its path on the site.
        files: all files of the site.
        root: the repository.
    """
    on_site = {source: one for one, source in files.items()}
    folder = files[path].parent

    def rewritten(found: re.Match[str]) -> str:
        label, parts = found[1], urlsplit(found[2])
        if parts.scheme or not parts.path:
            return found[0]
        target = (folder / parts.path).resolve()
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        if target in on_site:
            # From a Chinese page a link leads to the Chinese page, if there is one: the plugin expects the plain name.
            name = on_site[target].replace(".zh.md", ".md")
            return f"{label}({posixpath.relpath(name, posixpath.dirname(path) or '.')}{anchor})"
        kind = "tree" if target.is_dir() else "blob"
        return f"{label}({REPOSITORY}/{kind}/main/{target.relative_to(root).as_posix()}{anchor})"

    # The site loads nothing from other servers: no pictures, and not the script that diagrams of Mermaid need.
    diagrams = posixpath.relpath("diagrams", posixpath.dirname(path) or ".")
    parts = _CODE.split(with_pictures(text, diagrams, {one.removeprefix("diagrams/") for one in files}))
    return "".join(
        part if index % 2 else _LINK.sub(rewritten, _FOREIGN_PICTURE.sub(r"\1", part))
        for index, part in enumerate(parts)
    )


def collect(folder: Path, root: Path = ROOT) -> None:
    """Write all files of the site into a folder."""
    files = site_documents(root)
    for path, source in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".md"):
            target.write_text(with_site_links(source.read_text(encoding="utf-8"), path, files, root), encoding="utf-8")
        else:
            shutil.copy(source, target)


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
