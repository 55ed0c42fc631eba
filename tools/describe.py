"""`python -m tools.describe DIR` writes the AsyncAPI document and the JSON Schemas."""

from pathlib import Path

import click

from tools.documents import write_documents


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def main(folder: Path) -> None:
    """Write asyncapi.json and schemas/*.json into FOLDER."""
    write_documents(folder)


if __name__ == "__main__":
    main()
