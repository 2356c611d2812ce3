"""`streamer model inspect`: a bundle, verified as the worker verifies it, in words. Needs no extra."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.models.prototypes import Prototypes


def inspect(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Default: the one shipped.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify a bundle as the worker does, and show what it is."""
    from streamer.bundle_extras import not_kept
    from streamer.models.bundle import FLOAT32, default_bundle, load_bundle

    bundle = load_bundle(folder or default_bundle())
    manifest = bundle.manifest
    if json:
        from msgspec import to_builtins

        facts = {
            "model_version": bundle.model_version,
            "embedding_space": bundle.embedding_space,
            "fields": list(bundle.tokenizer.extras.names),
        }
        print_json({**facts, "taxonomy": to_builtins(bundle.taxonomy), **to_builtins(manifest)})
        return
    typer.echo(f"{bundle.model_version}, verified: hashes, graphs and self-test")
    typer.echo(f"embedding     {bundle.embedding_dim} numbers, space {bundle.embedding_space}")
    typer.echo(f"memberships   {_memberships(bundle.prototypes)}")
    typer.echo(f"taxonomy      version {bundle.taxonomy.version}, made by {manifest.teacher}")
    if bundle.tokenizer.extras.fields:
        read = (f"{each.name} ({each.kind}, {each.size:,} ids)" for each in bundle.tokenizer.extras.fields)
        typer.echo(f"reads also    {', '.join(read)}")
    missing = not_kept(bundle, ctx.obj.settings().clicks)
    if missing:
        say(f"warning: {missing}")
    if manifest.precision != FLOAT32:
        typer.echo(f"precision     {manifest.precision}: not promised that a replay gives what live gave")
    if manifest.profile is None:
        typer.echo("profile       none: the worker can't measure drift; train again to get one")
    for parent in bundle.taxonomy.parents:
        typer.echo(f"  {parent.label} ({parent.id})")
        for intent in bundle.taxonomy.intents:
            if intent.parent == parent.id:
                typer.echo(f"    {intent.label} ({intent.id})")
    for step, found in manifest.metrics.items():
        typer.echo(f"{step:<13} {in_one_line(found)}")


def _memberships(prototypes: Prototypes | None) -> str:
    if prototypes is None:
        return "none: the bundle has no prototypes; `streamer model prototypes` gives it some"
    return f"in {len(prototypes)} prototypes, version {prototypes.version}"


def in_one_line(found: Any, prefix: str = "") -> str:
    """A step's metrics in one line, without lists and shares per label, which --json has."""
    if not isinstance(found, dict):
        return " to ".join(map(str, found)) if isinstance(found, list) else str(found)
    parts = []
    for name, value in found.items():
        if isinstance(value, dict) and name != "label_shares":
            parts.append(in_one_line(value, f"{prefix}{name}."))
        elif not isinstance(value, dict | list):
            parts.append(f"{prefix}{name} {value}")
    return ", ".join(parts)
