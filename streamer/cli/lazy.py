"""A typer group that knows its commands by name and help line and imports one only to run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


def new_app() -> typer.Typer:
    """The app of one command's module: plain help, which is quick, and our own error messages."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class LazyCommand(NamedTuple):
    name: str
    module: str
    """It has a `new_app()` called `app`."""
    help: str

    def stand_in(self) -> Any:
        """Carries the help line, which is enough for `streamer --help`."""
        return TyperCommand(self.name, help=self.help)

    def load(self) -> Any:
        command = typer.main.get_command(import_module(self.module).app)
        command.name, command.short_help = self.name, self.help
        return command


class LazyGroup(TyperGroup):
    lazy: Mapping[str, LazyCommand]

    def register(self, commands: Iterable[LazyCommand]) -> None:
        self.lazy = {command.name: command for command in commands}
        self.commands = {command.name: command.stand_in() for command in commands}

    def load_all(self) -> None:
        """Every command as it is: for what reads their options without running one."""
        self.commands = {name: command.load() for name, command in self.lazy.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in and self.lazy[str(name)].load(), rest
