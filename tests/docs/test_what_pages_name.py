"""Command lines, settings, files and tests that the pages name are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from streamer.cli import command_line
from streamer.settings import Settings
from tests.conftest import ROOT

PAGES = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CALL = re.compile(r"(?:^|[|;&(] *)(?:[A-Z_]+=\S* )*streamer ([^|;&#>]*)")
SETTING = re.compile(rf"^((?:{'|'.join(Settings.model_fields)})\.(?!py$)[a-z_.]+)(?=$| ?=)")
VARIABLE = re.compile(r"STREAMER_([A-Z]+__[A-Z_]+)")
FILE = re.compile(
    r"(?<![\w/.-])((?:benchmarks|deploy|docs|examples|models|schemas|streamer|tests)/[\w./-]*\w)(?!\w|\*)"
)
MODULE = re.compile(r"python -m ((?:benchmarks|streamer|tests)[\w.]*)")
TARGET = re.compile(r"\bmake ([a-z-]+)")
TEST = re.compile(r"\btest_\w+")


class Named(NamedTuple):
    page: str
    text: str
    is_whole: bool
    """Whether it stands alone, and so for something that can be run."""


def named() -> Iterator[Named]:
    """Each line of code, a continued one as one, and each piece of code within a sentence."""
    for page in PAGES:
        text = page.read_text()
        for _, block in BLOCK.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                yield Named(page.name, line.removeprefix("$ ").strip(), True)
        for span in re.findall(r"`([^`]+)`", BLOCK.sub("", text)):
            yield Named(page.name, " ".join(span.split()), False)


def found(pattern: re.Pattern[str]) -> list[tuple[Named, str]]:
    everywhere = [(each, match) for each in named() for match in pattern.findall(each.text)]
    assert everywhere
    return everywhere


def refusal(command: Any, words: list[str], *, is_whole: bool) -> str | None:
    """Why nobody can call a command with these arguments."""
    try:
        _, rest, _ = command.make_parser(command.context_class(command)).parse_args(list(words))
    except Exception as error:  # the parser's own kinds are private
        return str(error) if is_whole or "requires an argument" not in str(error) else None
    if not hasattr(command, "commands"):
        return f"unexpected {rest}" if rest else None
    if not rest:
        return None
    below = command.commands.get(rest[0])
    return refusal(below, rest[1:], is_whole=is_whole) if below else f"no command {rest[0]}"


def is_setting(path: str) -> bool:
    """Whether there is such a setting, or a secret one that a file may hold."""
    section, *names = path.split(".")
    model: Any = Settings.model_fields[section].annotation
    for name in names:
        fields = getattr(model, "model_fields", {})
        secret = fields.get(name.removesuffix("_file"))
        if name not in fields and not (secret and "Secret" in str(secret.annotation)):
            return False
        model = fields[name].annotation if name in fields else None
    return True


def test_every_command_line_can_be_called() -> None:
    commands = command_line()
    commands.load_all()
    for each, call in found(CALL):
        words = shlex.split(re.sub(r"[\[\]…]|\.\.\.", "", call))
        assert refusal(commands, words, is_whole=each.is_whole) is None, each


def test_every_setting_is_one() -> None:
    for each, path in found(SETTING):
        assert is_setting(path.rstrip(".")), each
    for each, path in found(VARIABLE):
        assert is_setting(path.lower().replace("__", ".")), each


def test_every_file_is_there() -> None:
    for each, path in found(FILE):
        assert (ROOT / path).exists(), each


def test_every_module_can_be_run() -> None:
    for each, module in found(MODULE):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), each


def test_every_target_of_make_is_one() -> None:
    targets = (ROOT / "Makefile").read_text()
    for each, target in found(TARGET):
        assert re.search(rf"^{target}\b.*:", targets, re.MULTILINE), each


def test_every_test_is_one() -> None:
    tests = "\n".join(f"{path.name}\n{path.read_text()}" for path in (ROOT / "tests").rglob("*.py"))
    for each, name in found(TEST):
        assert re.search(rf"\b{name}\b", tests), each
