"""`python -m bridge` is `facebridge`."""

from bridge.cli import main

main(prog_name="facebridge")
