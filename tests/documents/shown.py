"""The commands that the documents show: those in their `sh` blocks, and those in their sentences."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from benchmarks.__main__ import main as benchmarks
from bridge.cli.main import main as facebridge

ROOT = Path(__file__).parents[2]

WALKED_PAGES = (
    "docs/first-door.md", "docs/recipes.md", "docs/upgrade.md", "docs/security.md",
    "docs/operation.md", "docs/persons.md", "docs/privacy.md", "integrations/node-red/README.md",
)  # fmt: skip
"""Pages with commands that tests/documents/test_shown_commands.py runs in their order."""

ELSEWHERE = {
    r"README.*: (cp config|chmod 600 config|scripts/run|git clone)": "tests/test_readme.py",
    r"README.*: (mosquitto_|sudo apt|printf '\{)": "tests/test_readme.py",
    r"README.*: scripts/test$": ".github/workflows/test.yml",
    r".*: (docker (?!compose)|mkdir data|chmod 600 data|sudo (cat|chown -R 1500) )": "tests/machine/test_containers.py",
    r".*: (git -C|mkdir facebridge|printf 'terminal_p)|docs/.*: git clone ": "tests/machine/test_containers.py",
    r".*: (uvx|pipx) ": "tests/release/test_wheel_installs.py",
    r"docs/http\.md: curl ": "tests/web/test_curl_examples.py",
    r"docs/mqtt\.md: (pip install )?check-jsonschema": "tests/documents/test_check_jsonschema.py",
    r"docs/home-assistant-app\.md: scripts/assemble-app ": "tests/home_assistant_app/assembled.py",
    r"docs/upgrade\.md: (/opt/facebridge/|systemctl |rm -r?f /)": "tests/machine/test_systemd.py",
    r"examples/systemd/README\.md: (\./install|runuser|systemctl|/opt/facebridge)": "tests/machine/test_systemd.py",
    r"examples/broker/README\.md: sudo \./make-certificates": "tests/access/shipped_broker.py",
    r"integrations/node-red/README\.md: npm install": "tests/node_red/test_palette.py",
}
"""Commands, each behind its page, and the files that run them."""

NOT_RUN = {
    r".*: docker compose": "needs Compose and an image; test_check_jsonschema.py checks the file",
    r"examples/broker/README\.md: (touch|set_password|sudo chown|cat >|control|mosquitto_pub)": "the same",
    r"examples/systemd/README\.md: \$EDITOR": "opens an editor",
    r"docs/mqtt\.md: npx ": "downloads hundreds of packages: tests/contract/test_asyncapi_parser.py reads the file",
    r".*: cosign|SECURITY\.md: sha256sum": "checks a published release",
    r"docs/performance\.md: scripts/bench": "takes minutes to hours; tests run each row at the smallest size",
    r"docs/upgrade\.md: (git pull|scripts/run)$": "tests/test_readme.py checks that nothing can conflict",
    r"CONTRIBUTING\.md: ": "run tests",
}
"""Commands, each behind its page, that no test runs, and the reason. The calls of our programs in them are parsed."""

_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_ANY_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_HERE_DOCUMENT = re.compile(r"<<(\w+)$")
_PROGRAMS: Mapping[str, click.Command] = {
    "facebridge": facebridge,
    "scripts/run": facebridge,
    "scripts/bench": benchmarks,
}
_END_OF_COMMAND = re.compile(r"[|&;<>)]+")


def documents() -> dict[str, Path]:
    """Return the documents by their paths in the repository, without those that a program writes."""
    folders = ("", "docs/", "ha_addon/", "examples/*/", "integrations/*/", "tests/")
    found = sorted(path for folder in folders for path in ROOT.glob(f"{folder}*.md"))
    return {path.relative_to(ROOT).as_posix(): path for path in found if not path.name.startswith("reference-")}


def run_elsewhere(page: str, command: str) -> bool:
    """Return whether the walk through the pages leaves out a command."""
    return any(re.match(pattern, f"{page}: {command}") for pattern in (*ELSEWHERE, *NOT_RUN))


def chinese_pages() -> dict[str, Path]:
    """Return the Chinese documents by the path of the English document."""
    pages = documents()
    pairs = {re.sub(r"\.zh(-CN)?\.md$", ".md", name): path for name, path in pages.items() if ".zh" in name}
    assert pairs.keys() <= pages.keys()
    return pairs


def commands(path: Path) -> list[str]:
    """Return the commands in the `sh` blocks of a document, each in one line, without comments."""
    return [command for block in _BLOCK.findall(path.read_text(encoding="utf-8")) for command in _commands(block)]


def _commands(block: str) -> Iterator[str]:
    lines = iter(re.sub(r"\\\n\s*", "", block).splitlines())
    for line in lines:
        command = re.sub(r"(^|\s+)# .*", "", line.strip())
        while command.endswith("|"):
            command += " " + next(lines).strip()
        if (end := _HERE_DOCUMENT.search(command)) is not None:
            # A here-document belongs to its command.
            while not command.endswith(f"\n{end[1]}"):
                command += "\n" + next(lines).strip()
        if command:
            yield command


def commands_in_sentences(path: Path) -> list[str]:
    """Return the calls of this repository's programs between single backticks."""
    text = _ANY_BLOCK.sub("", path.read_text(encoding="utf-8"))
    programs = "|".join(map(re.escape, _PROGRAMS))
    return re.findall(rf"`((?:{programs}) [^`]+)`", text)


def check_calls(text: str) -> int:
    """Check the calls of this repository's programs in a command of a shell; return their number.

    Raises:
        click.UsageError: a call names a command, an option or a choice that does not exist.
    """
    calls = 0
    for words in _simple_commands(text):
        start = 0
        if words[0] in ("docker", "runuser", "uvx"):
            # The program runs in a container, as another user, or in an environment of its own.
            starts = [
                at
                for at, word in enumerate(words[:-1])
                if word == "facebridge" and words[at + 1] in facebridge.commands
            ]
            start = max(starts, default=0)
        program = _PROGRAMS.get(words[start])
        if program is not None and all(word.isascii() for word in words) and words[start + 1 :] != ["COMMAND"]:
            _check(program, words[start + 1 :])
            calls += 1
    return calls


def _simple_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command; optional words in brackets count as words."""
    text = re.sub(r"\$\([^)]*\)", "x", re.sub(r"[][]", "", text))
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if _END_OF_COMMAND.fullmatch(word):
            if words:
                yield words
            words = []
        else:
            words.append(word)


def _check(command: click.Command, words: list[str]) -> None:
    """Parse words as the command line does, without the values that only exist on a user's machine."""
    parent = None
    while isinstance(command, click.Group) and (command is benchmarks or (words and not words[0].startswith("-"))):
        parent = click.Context(command, parent=parent, info_name=command.name)
        if command is benchmarks and not (words and words[0] in benchmarks.commands):
            words = ["run", *words]
        found = command.get_command(parent, words[0])
        if found is None:
            raise click.UsageError(f"no such command: {words[0]}", parent)
        command, words = found, words[1:]
    context = click.Context(command, parent=parent, info_name=command.name)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    for parameter in command.params:
        given = values.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice):
            for one in given if isinstance(given, list | tuple) else [given] if isinstance(given, str) else []:
                parameter.type.convert(one, parameter, context)
    if rest and not isinstance(command, click.Group):
        raise click.UsageError(f"unexpected: {' '.join(rest)}", context)
