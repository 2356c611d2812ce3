"""What the options before the command said; every command finds it as `ctx.obj`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.settings import Settings


@dataclass
class Invocation:
    config: Path | None = None
    overrides: list[str] = field(default_factory=list)
    """As given: `section.key=value`."""
    debug: bool = False

    def settings(self, **options: object) -> Settings:
        """Settings from all layers, logging set up with them.

        `options`: a command's own options by setting, `section__key=value`; None is not given.
        """
        from streamer.logs import configure_logging
        from streamer.settings import load_settings

        given = {name: value for name, value in options.items() if value is not None}
        own = {name.replace("__", "."): value for name, value in given.items()}
        settings = load_settings(self.config, self.parsed_overrides() | own)
        configure_logging(settings.log)
        return settings

    def as_options(self) -> list[str]:
        """The same options again, for a `streamer` in a process of its own."""
        config = ["--config", str(self.config.absolute())] if self.config else []
        overrides = [part for override in self.overrides for part in ("--set", override)]
        return [*config, *overrides, *(["--debug"] if self.debug else [])]

    def parsed_overrides(self) -> dict[str, object]:
        """The value of each --set as it was given, by `section.key`. Raises UsageError."""
        parsed: dict[str, object] = {}
        for text in self.overrides:
            key, equals, value = text.partition("=")
            if not equals or "." not in key:
                raise UsageError(f"--set {key}: expected section.key=value, such as session.gap_s=900")
            parsed[key.strip()] = value
        return parsed
