"""What two taxonomies of the same sessions have in common."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
SCRIPT = Path(__file__).parents[2] / "examples/local-llm/agreement.py"
Agreement = Callable[..., list[str]]


@pytest.fixture
def agreement(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Agreement:
    """The script, run with these folders, to the lines that it prints."""
    spec = importlib.util.spec_from_file_location("agreement", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "agreement", script)
    spec.loader.exec_module(script)

    def run(*folders: Path) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["agreement.py", *map(str, folders)])
        script.main()
        return capsys.readouterr().out.splitlines()

    return run


def work_folder(path: Path, intents: list[tuple[str, str]], of_rows: list[int], first_row: int = 0) -> Path:
    """`intents`: (label, label of the parent); `of_rows`: the intent of each session."""
    path.mkdir()
    parents = list(dict.fromkeys(parent for _, parent in intents))
    taxonomy = {
        "parents": [{"id": f"p{parents.index(p)}", "label": p} for p in parents],
        "intents": [{"id": f"i{i}", "label": label, "parent": f"p{parents.index(p)}"}
                    for i, (label, p) in enumerate(intents)],
    }  # fmt: skip
    (path / "taxonomy.made.json").write_text(json.dumps(taxonomy))
    rows = np.arange(first_row, first_row + len(of_rows))
    np.savez(path / "labels.npz", train_rows=rows, train=np.eye(len(intents))[of_rows])
    return path


SAVE = [("Save money", "Savings"), ("Buy a car", "Loans"), ("Buy a home", "Loans")]


def test_labels_of_other_clusters_and_words_are_told_from_the_same(
    agreement: Agreement, tmp_path: Path
) -> None:
    one = work_folder(tmp_path / "one", SAVE, [0, 0, 1, 2])
    same = work_folder(tmp_path / "same", [("money: save", "Savings"), *SAVE[1:]], [0, 0, 1, 2])
    assert json.loads(agreement(one, same)[-1]) == {
        "sessions": 4, "intents": 3, "intents_of_the_other": 3, "same_label": 1.0, "same_label_kappa": 1.0,
        "intents_nmi": 1.0, "parents_nmi": 1.0,
    }  # fmt: skip
    merged = work_folder(tmp_path / "merged", [SAVE[0], ("Borrow money", "Loans")], [0, 0, 1, 1])
    said = agreement(one, merged)
    assert "Loans: Buy a car  |  Loans: Borrow money" in said
    figures = json.loads(said[-1])
    assert (figures["same_label"], figures["parents_nmi"]) == (0.5, 1.0)
    assert figures["same_label_kappa"] == pytest.approx(1 / 3, abs=0.001)
    assert figures["intents_nmi"] < 1


def test_folders_that_have_nothing_in_common_are_said(agreement: Agreement, tmp_path: Path) -> None:
    one = work_folder(tmp_path / "one", SAVE, [0, 1])
    other = work_folder(tmp_path / "other", SAVE, [0, 1], first_row=2)
    with pytest.raises(SystemExit, match="expected the same clicks"):
        agreement(one, other)
    with pytest.raises(SystemExit, match="expected the folder of `streamer model taxonomy`"):
        agreement(one, tmp_path / "missing")
