"""`python -m bridge` is `facebridge`."""

from bridge.cli.main import main

main(prog_name="facebridge")
