"""`python -m benchmarks.scrubbing`: what scrubbing finds, what it spoils, and what it costs a click.

A secret counts as found if none of its characters in a row that could name somebody are left in what a click
keeps: four digits of a number, the host of an address. The yardstick for the cost is the obvious way: six
patterns over URL, title and query of every click.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence

import orjson

from benchmarks.clicks import clicks
from benchmarks.personal import Sample, as_url, harmless, personal
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.normalize import search_query
from streamer.pipeline.scrub import scrub

ARRIVAL_MS = 1_795_046_400_000
_NAIVE = [
    re.compile(pattern)
    for pattern in (
        r"[\w.+-]+@[\w-]+\.[\w.-]+",
        r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}\b",
        r"\b(?:\d[ -.]?){13,19}\b",
        r"\b\d{3}[- .]\d{2}[- .]\d{4}\b",
        r"\+?\(?\d{1,4}\)?(?:[ -./]?\d{2,4}){2,5}",
        r"\b\d{8,17}\b",
    )
]


def measure(samples: int, count: int, seed: int) -> dict[str, object]:
    """`samples` texts of each sort, `count` clicks."""
    decoder, chance = ClickDecoder(), random.Random(seed)
    found, made, missed = Counter[str](), Counter[str](), []
    for sample in itertools.islice(personal(seed), samples):
        made[sample.kind] += 1
        left = _left(decoder, sample, as_url(sample.text, chance))
        found[sample.kind] += left is None
        if left is not None and len(missed) < 10:
            missed.append({"kind": sample.kind, "left": left})
    texts = [sample.text for sample in itertools.islice(harmless(seed), samples)]
    spoilt = [text for text in texts if scrub(text) is not text]
    hits = sum(found.values())
    return {
        "personal": samples,
        "recall": round(hits / samples, 5),
        "recall_of_kind": {kind: round(found[kind] / made[kind], 5) for kind in sorted(made)},
        "missed": missed,
        "harmless": samples,
        "precision": round(hits / (hits + len(spoilt)), 5),
        "spoilt": sorted(set(spoilt))[:10],
        **_costs([value for _, value in clicks(count, max(1, count // 24), seed)]),
    }


def _left(decoder: ClickDecoder, sample: Sample, url: str) -> str | None:
    """What a kept click shows of the secret, after the query, the URL and the title were given it."""
    arrived = decoder.decode(
        orjson.dumps(
            {
                **{
                    "visitor_id": "v",
                    "timestamp": ARRIVAL_MS,
                    "event_type": "search",
                    "element": sample.text,
                },
                **{"search_query": sample.text, "page_url": url, "page_title": sample.text, "referrer": url},
            }
        ),
        ARRIVAL_MS,
        "e",
    )
    assert arrived is not None
    kept = arrived.click
    for text in (kept.search_query, kept.path, kept.element, kept.referrer):
        if text and _shows(text.casefold(), sample.secret.casefold()):
            return text
    return None


def _shows(text: str, secret: str) -> bool:
    if "@" in secret:
        return secret.rpartition("@")[2] in text or secret in text
    runs = re.findall(r"\d+", re.sub(r"[^\w]", "", secret))
    squeezed = re.sub(r"[^\w]", "", text)
    return any(
        run[at : at + 4] in squeezed for run in runs for at in range(max(1, len(run) - 3)) if len(run) > 3
    )


def _costs(values: Sequence[bytes]) -> dict[str, object]:
    """Microseconds a click, the best of five rounds."""
    parsed = [orjson.loads(value) for value in values]
    texts = [
        [text for text in (each["page_url"], each.get("page_title"), each["search_query"]) if text]
        for each in parsed
    ]
    queries = [each["search_query"] for each in parsed if each["search_query"]]

    def naive() -> None:
        for each in texts:
            for text in each:
                for pattern in _NAIVE:
                    text = pattern.sub(":x", text)

    def ours() -> None:
        for each in texts:
            for text in each:
                scrub(text.partition("?")[0])

    def decoding() -> None:
        decode = ClickDecoder().decode
        for value in values:
            decode(value, ARRIVAL_MS, "e")

    def only_queries() -> None:
        for text in queries:
            search_query(text)

    return {
        "clicks": len(values),
        "six_patterns_us": _us(naive, len(values)),
        "scrubbing_us": _us(ours, len(values)),
        "whole_decoding_us": _us(decoding, len(values)),
        "a_query_us": _us(only_queries, len(queries) or 1),
    }


def _us(work: Callable[[], None], count: int) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return round(best / count * 1e6, 2)


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scrubbing", description=__doc__)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--clicks", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(orjson.dumps(measure(options.samples, options.clicks, options.seed)).decode())


if __name__ == "__main__":
    main()
