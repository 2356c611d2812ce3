"""The content of the simulated bank: intents in two levels, their pages and words, tiles and products.

Rules: after loading, everything refers to intents and parents by their position. Names are kept for the
truth tables alone, so that renaming them can't change a click.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from streamer.models.arrays import Float64


@dataclass(frozen=True, slots=True)
class Page:
    kind: str
    title: str
    paths: tuple[str, ...]
    """Ways to the same content; the first is the one that customers take."""
    product_id: str | None = None


@dataclass(frozen=True, slots=True)
class SimulatedParent:
    name: str
    words: tuple[str, ...]
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class SimulatedIntent:
    name: str
    parent: int
    popularity: float
    ages: tuple[int, int]
    product: int | None
    tile: int
    related: tuple[int, ...]
    words: tuple[str, ...]
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class Campaign:
    intent: int
    page: Page
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """I intents, P products, T tiles."""

    host: str
    parents: tuple[SimulatedParent, ...]
    intents: tuple[SimulatedIntent, ...]
    campaigns: tuple[Campaign, ...]
    site_words: tuple[str, ...]
    site_pages: tuple[Page, ...]
    account_pages: tuple[Page, ...]
    products: tuple[str, ...]
    tiles: tuple[str, ...]

    def siblings(self, intent: int) -> tuple[int, ...]:
        parent = self.intents[intent].parent
        return tuple(i for i, other in enumerate(self.intents) if other.parent == parent and i != intent)

    def tile_affinity(self) -> Float64:
        """[I, T]: how much each intent makes each tile attractive."""
        affinity = np.zeros((len(self.intents), len(self.tiles)))
        for index, intent in enumerate(self.intents):
            for sibling in self.siblings(index):
                affinity[index, self.intents[sibling].tile] = 0.15
            for other in intent.related:
                affinity[index, self.intents[other].tile] = 0.35
            affinity[index, intent.tile] = 1.0
        return affinity

    def product_affinity(self) -> Float64:
        """[I, P]: how much each intent leads to each product; service intents have none of their own."""
        affinity = np.zeros((len(self.intents), len(self.products)))
        for index, intent in enumerate(self.intents):
            for other in intent.related:
                product = self.intents[other].product
                if product is not None:
                    affinity[index, product] = 0.2
            if intent.product is not None:
                affinity[index, intent.product] = 1.0
        return affinity


def load_catalogue(data: Mapping[str, Any] | None = None) -> Catalogue:
    """The shipped catalogue, or one given in the same form as a parsed `catalogue.toml`."""
    if data is None:
        data = read_catalogue()
    parent_at = {parent["id"]: index for index, parent in enumerate(data["parent"])}
    intent_at = {intent["id"]: index for index, intent in enumerate(data["intent"])}
    products = tuple(intent["product"] for intent in data["intent"] if "product" in intent)
    tiles = tuple(_tile(intent) for intent in data["intent"]) + tuple(data["site"]["generic_tiles"])
    intents = tuple(_intent(item, parent_at, intent_at, products, tiles) for item in data["intent"])
    return Catalogue(
        host=data["site"]["host"],
        parents=tuple(
            SimulatedParent(p["id"], tuple(p["words"]), _pages(p["pages"])) for p in data["parent"]
        ),
        intents=intents,
        campaigns=tuple(
            Campaign(intent_at[c["intent"]], _pages([c["page"]])[0], tuple(c["words"]))
            for c in data["campaign"]
        ),
        site_words=tuple(data["site"]["words"]),
        site_pages=_pages(data["site"]["pages"]),
        account_pages=_pages(data["site"]["account_pages"]),
        products=products,
        tiles=tiles,
    )


def read_catalogue() -> dict[str, Any]:
    return tomllib.loads(files("streamer.models.simulator").joinpath("catalogue.toml").read_text("utf-8"))


def _intent(
    item: Mapping[str, Any],
    parent_at: Mapping[str, int],
    intent_at: Mapping[str, int],
    products: tuple[str, ...],
    tiles: tuple[str, ...],
) -> SimulatedIntent:
    product = item.get("product")
    return SimulatedIntent(
        name=item["id"],
        parent=parent_at[item["parent"]],
        popularity=float(item["popularity"]),
        ages=(item["ages"][0], item["ages"][1]),
        product=None if product is None else products.index(product),
        tile=tiles.index(_tile(item)),
        related=tuple(intent_at[name] for name in item["related"]),
        words=tuple(item["words"]),
        pages=_pages(item["pages"], product),
    )


def _tile(item: Mapping[str, Any]) -> str:
    tile: str = item["tile"] if "tile" in item else "T" + item["product"][1:]
    return tile


def _pages(rows: list[list[Any]], product: str | None = None) -> tuple[Page, ...]:
    sold = ("product", "application")
    return tuple(
        Page(kind, title, tuple(paths), product if kind in sold else None) for kind, title, paths in rows
    )
