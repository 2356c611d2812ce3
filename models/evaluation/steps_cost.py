"""What a session costs in each way of knowing its intent: measured here, or computed for a teacher.

No paid endpoint is called here. A teacher's tokens are counted on the lines it would
read; prices and its latency are stated with the figures, for they are assumptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from streamer.models.bundle import Bundle
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.labelling.rendering import rendering
from streamer.models.llm.config import LlmConfig

SESSIONS = 2_000
ROUNDS = 5
CHARACTERS_PER_TOKEN = 4.0
PROMPT_TOKENS = 900
"""Instructions and the list of intents, once a request."""
ANSWER_TOKENS = 60
"""A session's intents with quotes."""
USD_PER_MILLION_IN, USD_PER_MILLION_OUT = 0.15, 0.60
"""Assumed: a small hosted model."""
TEACHER_SECONDS = 1.5
"""Assumed: one request."""


def costs(experiment: Experiment, bundle: Bundle) -> Json:
    """Per session: CPU time of tokenizer, encoder and head; a teacher's requests, tokens and money."""
    # Not by the model's version: that changes with whatever is written into its manifest.
    config = {
        **experiment.of_seed(experiment.scale.seeds[0]),
        "sessions": SESSIONS,
        "bundle": bundle.embedding_space,
    }

    def compute() -> Json:
        sessions = experiment.data(experiment.scale.seeds[0]).sessions[:SESSIONS]
        encoded = bundle.tokenizer.encode(sessions)
        embeddings = np.concatenate([bundle.runtime.run(each).embeddings for each in encoded])
        tokenizing = _microseconds(lambda: bundle.tokenizer.encode(sessions), len(sessions))
        both = _microseconds(lambda: [bundle.runtime.run(each) for each in encoded], len(sessions))
        head = _head_microseconds(bundle, embeddings)
        return {
            "tokenizer_us": tokenizing,
            "encoder_us": max(0.0, both - head),
            "head_us": head,
            "teacher": _teacher([rendering(session, str) for session in sessions]),
        }

    return experiment.store.result("costs", config, compute)


def _microseconds(do: Callable[[], Any], sessions: int) -> float:
    """CPU time a session, the least of several rounds."""
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        do()
        spent.append(time.process_time() - begun)
    return 1e6 * min(spent) / sessions


def _head_microseconds(bundle: Bundle, embeddings: Any) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    size = bundle.runtime.batch_of_length[8]
    options.add_free_dimension_override_by_name("batch", size)
    graph = (bundle.path / "classifier.onnx").read_bytes()
    head = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    batches = [embeddings[at : at + size] for at in range(0, len(embeddings) - size + 1, size)]
    return _microseconds(
        lambda: [head.run(["logits", "novelty"], {"embedding": batch}) for batch in batches],
        len(batches) * size,
    )


def _teacher(renderings: list[str]) -> Json:
    """Of one session with all its votes."""
    settings = LlmConfig(base_url="", model="")
    own = float(np.mean([len(text) for text in renderings])) / CHARACTERS_PER_TOKEN
    asked = settings.votes * (own + PROMPT_TOKENS / settings.sessions_per_label)
    answered = settings.votes * ANSWER_TOKENS
    money = (asked * USD_PER_MILLION_IN + answered * USD_PER_MILLION_OUT) / 1e6
    return {
        "tokens_in": asked,
        "tokens_out": answered,
        "usd_per_thousand_sessions": 1_000.0 * money,
        "seconds_per_request": TEACHER_SECONDS,
        "requests": settings.votes / settings.sessions_per_label,
        "assumed": {
            "usd_per_million_tokens": {"in": USD_PER_MILLION_IN, "out": USD_PER_MILLION_OUT},
            "seconds_per_request": TEACHER_SECONDS,
            "characters_per_token": CHARACTERS_PER_TOKEN,
        },
    }
