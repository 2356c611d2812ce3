"""Whether the settings keep what a bundle reads of a click beyond its own fields."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from streamer.models.bundle import Bundle
from streamer.models.extra_fields import PRICE
from streamer.settings import ClickSettings

log = structlog.get_logger(__name__)


def warn_of_missing(bundles: Iterable[Bundle], clicks: ClickSettings) -> None:
    """Logs what `not_kept` says, if that is anything."""
    for bundle in bundles:
        hint = not_kept(bundle, clicks)
        if hint:
            log.warning("bundle_reads_what_is_not_kept", hint=hint)


def not_kept(bundle: Bundle, clicks: ClickSettings) -> str | None:
    """One line for people if `clicks.keep` lacks some of it: the bundle takes that for missing everywhere."""
    read = [name for name in bundle.tokenizer.extras.names if name != PRICE]
    missing = [name for name in read if name not in clicks.keep]
    if not missing:
        return None
    wanted = ", ".join(f'"{name}"' for name in sorted({*clicks.keep, *missing}))
    return (
        f"{bundle.model_version} reads {', '.join(missing)}, which clicks.keep doesn't keep, and takes it for"
        f" missing; expected clicks.keep = [{wanted}]"
    )
