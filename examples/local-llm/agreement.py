"""How far two taxonomies of the same sessions agree: the same model asked twice, or two models.

Both folders are what `streamer model taxonomy` worked in, with the same clicks; one may be a copy of the
other, in which the step ran once more with another seed, temperature or model.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import cohen_kappa_score, normalized_mutual_info_score


@dataclass(frozen=True)
class Labelled:
    """Sessions by row of the training split, with places in lists of labels."""

    labels: list[str]
    """Of the intents."""
    parents: list[str]
    """Label of each intent's parent."""
    intent_of: dict[int, int]
    """Likeliest intent of each row."""

    @classmethod
    def read(cls, work: Path) -> Labelled:
        """Raises SystemExit if the step hasn't run there."""
        try:
            taxonomy = json.loads((work / "taxonomy.made.json").read_bytes())
            with np.load(work / "labels.npz", allow_pickle=False) as stored:
                rows, given = stored["train_rows"], stored["train"]
        except FileNotFoundError as error:
            raise SystemExit(f"{error.filename}: expected the folder of `streamer model taxonomy`") from None
        parents = {each["id"]: each["label"] for each in taxonomy["parents"]}
        intents = taxonomy["intents"]
        return cls(
            [each["label"] for each in intents],
            [parents[each["parent"]] for each in intents],
            dict(zip(rows.tolist(), given.argmax(1).tolist(), strict=True)),
        )


def words_of(label: str) -> str:
    """Of labels that say the same, the same text."""
    return " ".join(sorted(re.findall(r"\w+", label.casefold())))


def agreement(a: Labelled, b: Labelled) -> dict[str, float | int]:
    """Over the sessions that both have labelled. Raises SystemExit if there are none."""
    rows = sorted(a.intent_of.keys() & b.intent_of.keys())
    if not rows:
        raise SystemExit("the two folders have labelled no session in common: expected the same clicks")
    of_a, of_b = ([each.intent_of[row] for row in rows] for each in (a, b))
    said_a, said_b = ([words_of(each.labels[i]) for i in of] for each, of in ((a, of_a), (b, of_b)))
    up_a, up_b = ([each.parents[i] for i in of] for each, of in ((a, of_a), (b, of_b)))
    same = float(np.mean([x == y for x, y in zip(said_a, said_b, strict=True)]))
    return {
        "sessions": len(rows),
        "intents": len(a.labels),
        "intents_of_the_other": len(b.labels),
        "same_label": round(same, 3),
        "same_label_kappa": round(float(cohen_kappa_score(said_a, said_b)), 3) if same < 1 else 1.0,
        "intents_nmi": round(float(normalized_mutual_info_score(of_a, of_b)), 3),
        "parents_nmi": round(float(normalized_mutual_info_score(up_a, up_b)), 3),
    }


def pairs(a: Labelled, b: Labelled) -> list[tuple[str, str, str, str]]:
    """Of each intent of `a` its parent and label, and those that most of its sessions have in `b`."""
    found = []
    for i, label in enumerate(a.labels):
        others = [b.intent_of[row] for row, own in a.intent_of.items() if own == i and row in b.intent_of]
        if others:
            j = int(np.bincount(others).argmax())
            found.append((a.parents[i], label, b.parents[j], b.labels[j]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("other", type=Path)
    given = parser.parse_args()
    a, b = Labelled.read(given.work), Labelled.read(given.other)
    figures = agreement(a, b)
    for one, label, other, said in pairs(a, b):
        print(f"{one}: {label}  |  {other}: {said}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
