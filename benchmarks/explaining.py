"""`python -m benchmarks.explaining`: what explanations cost, and whether they name what the label hangs on.

Sessions of simulated visitors whom no training has seen, of six clicks or more, that the shipped bundle
labels. Of each the 1, 2 and 3 strongest clicks are left out, and as many that have most attention, or that
are drawn at random: how far does each take the label's probability down? (Comprehensiveness; beside it
sufficiency, the probability when nothing but these clicks is left: J. DeYoung et al., ERASER, ACL 2020.)
Intervals: 95 %, by a bootstrap over visitors. The last line is one JSON object.

With one click the explanation can't lose by construction, for it was chosen by the same measure; with more it
can: clicks that say the same are left out one by one when they are chosen, and together here.

Cost: CPU time of an explanation over that of scoring the session alone, for sessions of the median length.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime

from streamer.core.rules import SessionRules
from streamer.models.arrays import Float64
from streamer.models.bundle import Bundle, default_bundle, load_bundle
from streamer.models.evaluation.bootstrap import cluster_numbers
from streamer.models.explain import Explanation, explain
from streamer.models.leave_out import without
from streamer.models.runtime import feed_of
from streamer.models.scorer import Scored, Scorer
from streamer.models.simulator import SimulatorConfig, simulate
from streamer.models.simulator.files import write_table
from streamer.replay.file_source import sessions_of_file
from streamer.schemas.click import Session

SEED = 77_020
"""Of no other experiment."""
FEWEST_CLICKS = 6
LEFT_OUT = (1, 2, 3)
RANDOM_SETS = 20
DRAWS = 2_000
TIMED, REPEATS = 200, 5
_AFTER_SOFTMAX = 3


class Attention:
    """How much attention each click of a session gets: the mean over layers, heads and tokens."""

    def __init__(self, bundle: Bundle) -> None:
        self._tokenizer = bundle.tokenizer
        model = onnx.load(str(bundle.path / "encoder.onnx"))
        self._names: list[str] = []
        for node in model.graph.node:
            if node.op_type == "Attention":
                name = f"attention_{len(self._names)}"
                node.output.extend(["", "", name])
                node.attribute.append(onnx.helper.make_attribute("qk_matmul_output_mode", _AFTER_SOFTMAX))
                model.graph.output.append(
                    onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
                )
                self._names.append(name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it doubts the shapes, which nobody has declared
        self._encoder = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def of(self, session: Session) -> Float64:
        """[clicks]"""
        (encoded,) = self._tokenizer.encode([session])
        count = len(session.clicks)
        found = self._encoder.run(self._names, feed_of(encoded, np.array([0]), 0, 1, count, 1))
        attention = np.stack([each[0] for each in found])  # [layers, heads, tokens, tokens]
        received: Float64 = attention.mean((0, 1, 2), dtype=np.float64)
        return received[1:]  # the class token is first


def measure(visitors: int) -> dict[str, Any]:
    """Of so many visitors."""
    bundle = load_bundle(default_bundle())
    scorer, attention, rng = Scorer(bundle), Attention(bundle), np.random.default_rng(SEED)
    ids = [intent.id for intent in bundle.taxonomy.intents]
    sessions = _sessions(visitors)
    labelled = _labelled(scorer, [each for each in sessions if len(each.clicks) >= FEWEST_CLICKS])
    rows: dict[str, list[Float64]] = {}
    for session, scored in labelled:
        intent, count = ids.index(str(scored.top_intent)), len(session.clicks)
        explained = explain(scorer, session)
        assert isinstance(explained, Explanation)
        by_contribution = np.argsort([-each.contribution for each in explained.clicks], kind="stable")
        by_attention = np.argsort(-attention.of(session), kind="stable")
        orders = [by_contribution, by_attention, *(rng.permutation(count) for _ in range(RANDOM_SETS))]
        sets: list[set[int]] = []
        for most in LEFT_OUT:
            sets += [set(order[:most].tolist()) for order in orders]
            sets += [set(order[most:].tolist()) for order in orders]
        chances = _probabilities(bundle, session, sets)[:, intent].reshape(len(LEFT_OUT), 2, len(orders))
        for most, (dropped, kept) in zip(LEFT_OUT, chances, strict=True):
            rows.setdefault(f"comprehensiveness/{most}", []).append(
                scored.intents[0].probability - _by_way(dropped)
            )
            rows.setdefault(f"sufficiency/{most}", []).append(_by_way(kept))
    clusters = cluster_numbers([session.visitor_id for session, _ in labelled])
    return {
        "cost": _cost(scorer, sessions),
        "sessions": len(labelled),
        "visitors": int(clusters.max()) + 1,
        "median_clicks": int(np.median([len(session.clicks) for session, _ in labelled])),
        "probability": float(np.mean([scored.intents[0].probability for _, scored in labelled])),
        **{name: _summary(np.array(values), clusters, rng) for name, values in rows.items()},
    }


def _sessions(visitors: int) -> list[Session]:
    """Of people."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.jsonl.gz"
        write_table(simulate(SimulatorConfig(visitors=visitors, seed=SEED)).clicks(), path, level=1)
        return [each for each in sessions_of_file(path, SessionRules()).sessions if not each.is_bot]


def _labelled(scorer: Scorer, sessions: Sequence[Session]) -> list[tuple[Session, Scored]]:
    scores = zip(sessions, scorer.score(sessions), strict=True)
    return [(session, each) for session, each in scores if isinstance(each, Scored) and each.top_intent]


def _cost(scorer: Scorer, sessions: Sequence[Session]) -> dict[str, float]:
    length = int(median(len(session.clicks) for session in sessions))
    usual = [session for session in sessions if len(session.clicks) == length][:TIMED]
    took = np.array([[_cpu_s(act, session) for act in _acts(scorer)] for session in usual])
    ratios = took[:, 1] / took[:, 0]
    return {
        "clicks": length,
        "score_ms": round(float(np.median(took[:, 0])) * 1e3, 3),
        "explain_ms": round(float(np.median(took[:, 1])) * 1e3, 3),
        "ratio": round(float(np.median(ratios)), 1),
        "ratio_p90": round(float(np.quantile(ratios, 0.9)), 1),
    }


def _acts(scorer: Scorer) -> list[Callable[[Session], object]]:
    return [lambda session: scorer.score([session]), lambda session: explain(scorer, session)]


def _cpu_s(act: Callable[[Session], object], session: Session) -> float:
    began = time.process_time()
    for _ in range(REPEATS):
        act(session)
    return (time.process_time() - began) / REPEATS


def _probabilities(bundle: Bundle, session: Session, sets: Sequence[set[int]]) -> Float64:
    """[sets, K], without each set of clicks."""
    encoded = bundle.tokenizer.encode([without(session, left_out) for left_out in sets])
    return bundle.calibration.probabilities(bundle.runtime.run_all(encoded).logits).astype(np.float64)


def _by_way(values: Float64) -> Float64:
    """[3]: by contribution, by attention, at random."""
    return np.array([values[0], values[1], values[2:].mean()])


def _summary(values: Float64, clusters: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Means of [N, 3], and how far the explanation is ahead of the other two, with intervals."""
    ways = {"named": values[:, 0], "attention": values[:, 1], "random": values[:, 2]}
    ahead = {f"named_over_{name}": ways["named"] - ways[name] for name in ("attention", "random")}
    count = int(clusters.max()) + 1
    sums = np.zeros((count, 3))
    np.add.at(sums, clusters, np.stack([*ahead.values(), np.ones(len(values))], axis=1))
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS) @ sums
    found: dict[str, Any] = {name: round(float(each.mean()), 4) for name, each in ways.items()}
    for place, (name, each) in enumerate(ahead.items()):
        low, high = np.quantile(drawn[:, place] / drawn[:, 2], [0.025, 0.975])
        found[name] = [round(float(x), 4) for x in (each.mean(), low, high)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--visitors", type=int, default=2_000)
    print(json.dumps(measure(parser.parse_args().visitors)))


if __name__ == "__main__":
    main()
