"""`streamer model prototypes`: a bundle with prototypes of its own encoder; all else stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.click_source import ClickSource
from streamer.cli.local_paths import out_path
from streamer.cli.output import print_json, say
from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.models.bundle import Manifest


def prototypes(
    ctx: typer.Context,
    out: Annotated[Path, out_path("--out", "DIR", "The folder to write the bundle to.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="The clicks it was trained on, as for train. None: simulated as they were for the bundle.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="Default: that of the settings.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bundle.")] = 7,
    source: ClickSource = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Give a bundle prototypes for `emit.memberships`; its vectors and labels stay as they are."""
    from streamer.bundle_extras import not_kept
    from streamer.cli.recipe import Clickstream, explained, sha256_of
    from streamer.models.bundle import default_bundle, load_bundle
    from streamer.models.training.prototypes import add_prototypes
    from streamer.replay.session_sample import MOST_SESSIONS

    settings = ctx.obj.settings(clicks__source=source)
    loaded = load_bundle(bundle or settings.model.bundle or default_bundle())
    missing = not_kept(loaded, settings.clicks)
    if missing:
        say(f"warning: {missing}")
    with _clicks(file, loaded.manifest) as clicks, explained():
        if sha256_of(clicks) != loaded.manifest.data.get("sha256"):
            say(f"note: {loaded.model_version} was trained on other clicks than {clicks}")
        sessions = Clickstream(clicks, MOST_SESSIONS, settings).held().sessions
        notes = add_prototypes(loaded, sessions, seed, out)
    made = load_bundle(out)
    if json:
        print_json({"bundle": str(out), "model_version": made.model_version, "prototypes": notes})
        return
    say(f"{made.model_version} written to {out}: {notes['prototypes']} prototypes")


@contextmanager
def _clicks(file: Path | None, manifest: Manifest) -> Iterator[Path]:
    """The file, or the clicks that the bundle says it was made of, simulated again."""
    if file is not None:
        yield file
        return
    visitors, seed = (manifest.data.get(name) for name in ("visitors", "seed"))
    if not (isinstance(visitors, int) and isinstance(seed, int)):
        raise UsageError(f"the bundle {manifest.name} was not made of simulated clicks: expected a FILE")
    from streamer.models.simulator import SimulatorConfig, simulate, write

    config = SimulatorConfig(visitors=visitors, seed=seed)
    with TemporaryDirectory(prefix="streamer-prototypes-") as folder:
        yield write(simulate(config), Path(folder))["clicks"]
