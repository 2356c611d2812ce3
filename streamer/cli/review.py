"""`streamer model review`: people change a taxonomy on a page before it is distilled."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.local_paths import local_path
from streamer.cli.output import say

if TYPE_CHECKING:
    from streamer.review.draft import Review


def review(
    ctx: typer.Context,
    work: Annotated[Path, local_path("--work", "DIR", "Where the steps leave their results.")] = Path(
        "runs/model"
    ),
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen [default: 127.0.0.1].")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="On which port [default: 8090].")
    ] = None,
) -> None:
    """After step 3: rename, merge, split, move and retire intents on a page, and see what that does.

    The link that is printed lets in whoever has it. Settings are in the section [ui].
    """
    from streamer.cli.recipe import Recipe, explained, training_pipeline
    from streamer.models.evaluation.taxonomy_preview import LabelledSessions
    from streamer.models.training.pipeline import no_progress
    from streamer.review.draft import Review
    from streamer.review.server import run_review

    recipe = Recipe.load(work)
    recipe.check_unchanged()
    settings = ctx.obj.settings(ui__host=host, ui__port=port)

    def load() -> Review:
        pipeline = training_pipeline(recipe, work, settings, no_progress)
        return Review(pipeline.folder, LabelledSessions.of(pipeline), time.time)

    with explained():
        asyncio.run(run_review(settings.ui, load, say))
