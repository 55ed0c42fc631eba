"""Draws the Mermaid diagrams of the documents. `scripts/draw-diagrams` runs it with the path of Mermaid's script."""

import hashlib
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "diagrams"

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_DRAW = """
async (source) => {
    mermaid.initialize({ startOnLoad: false, theme: "neutral", securityLevel: "strict" });
    document.body.innerHTML = (await mermaid.render("diagram", source)).svg;
    const svg = document.querySelector("svg");
    svg.style.background = "white";
    // A picture must be XML, and Mermaid writes HTML.
    return new XMLSerializer().serializeToString(svg);
}
"""


def diagram_name(source: str) -> str:
    """Return the file name of a diagram: a changed diagram has another name."""
    return f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.svg"


def with_pictures(text: str, folder: str, files: set[str]) -> str:
    """Return a document with pictures in place of its diagrams.

    Args:
        text: the document.
        folder: the path of the diagrams' folder from the document.
        files: the names of the pictures that exist.

    Raises:
        FileNotFoundError: a diagram has no picture.
    """

    def picture(found: re.Match[str]) -> str:
        name = diagram_name(found[1])
        if name not in files:
            raise FileNotFoundError(f"docs/diagrams/{name} is missing: run scripts/draw-diagrams")
        return f"![diagram]({folder}/{name})"

    return _BLOCK.sub(picture, text)


def draw(script: Path) -> None:
    """Draw the diagrams of all documents that have no picture, and delete pictures of former diagrams."""
    from playwright.sync_api import sync_playwright

    sources = {
        diagram_name(source): source
        for page in (ROOT / "docs").glob("*.md")
        for source in _BLOCK.findall(page.read_text())
    }
    FOLDER.mkdir(exist_ok=True)
    for former in FOLDER.glob("*.svg"):
        if former.name not in sources:
            former.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<body></body>")
        page.add_script_tag(path=script)
        for name, source in sources.items():
            if not (FOLDER / name).exists():
                (FOLDER / name).write_text(page.evaluate(_DRAW, source) + "\n", encoding="utf-8")
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
