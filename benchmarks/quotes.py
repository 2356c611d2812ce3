"""Puts measured figures where the documents quote them: between `<!-- figures: NAME -->` and `<!-- end -->`.

Run as a program: `python -m benchmarks.quotes` fills in README.md and docs/ from
docs/results/benchmarks.json, which `make bench ARGS='--out docs/results/benchmarks.json'` writes, and from
other whole runs beside it. A test holds the documents against the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import orjson

from benchmarks.capacity import Choices, Load, Plan, Unit, plan, unit
from benchmarks.pairs import short
from benchmarks.tables import as_text

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "docs/results/benchmarks.json"
AGAIN = "benchmarks-*.json"
"""Results of other whole runs beside it."""
DOCUMENTS = (ROOT / "README.md", ROOT / "docs/performance.md", ROOT / "docs/capacity.md")
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Figures = Mapping[str, Any]
MARKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("CPU, `core` to loop", "1.15 at most", ("throughput", "core", "cpu_ratio")),
    ("CPU, `sessionize` to loop", "1.5 at most", ("throughput", "sessionize", "cpu_ratio")),
    ("CPU, `with_model` to loop", "3.0 at most", ("throughput", "with_model", "cpu_ratio")),
    ("rate, two processes to one", "1.8", ("processes", "2 with_model", "rate_ratio", "median")),
    ("rate, four processes to one", "", ("processes", "4 with_model", "rate_ratio", "median")),
    ("decoding Avro, µs a click", "10 at most", ("formats", "decode", "avro_us", "median")),
    ("scoring, p50 at the median length, ms", "0.5 at most", ("scoring", "p50_ms")),
    ("scoring, p99 at 64 clicks, ms", "3 at most", ("scoring", "longest_p99_ms")),
    ("scoring, sessions a CPU second", "15,000", ("scoring", "sessions_per_cpu_s")),
    ("text encoder to scoring, CPU", "20", ("scoring", "text_encoder_cpu_vs_scoring")),
    ("latency p99, ms, commits each 50 ms", "150 at most", ("latency", "50", "p99", "median")),
    ("latency p99, ms, commits each 250 ms", "350 at most", ("latency", "250", "p99", "median")),
    ("latency p99, ms, commits each 1,000 ms", "1,100 at most", ("latency", "1000", "p99", "median")),
    ("1.1 million open sessions, worker, MB", "1,500 for 1 million", ("live_state", "rss_mb")),
    ("the same, core alone, MB", "", ("core_state", "rss_mb")),
    ("cost of a click there, to that with 11,000", "1.2 at most", ("core_state", "vs_few", "median")),
    ("recovery there, s", "20 at most", ("live_state", "recovery_s")),
    ("longest stall there, steady, ms", "50 at most", ("live_state", "steady_stall_cpu_ms")),
    ("longest stall there, catching up, ms", "", ("live_state", "catching_up_stall_cpu_ms")),
    ("start with little state, s", "3 at most", ("start_up", "restart_wall_s")),
    ("replay to live, topic", "1", ("replay", "topic", "vs_live", "median")),
    ("replay to live, file", "2", ("replay", "file", "vs_live", "median")),
)
"""What is measured, the mark that it is to reach, and where it stands in a result."""
Rows = Iterator[tuple[str, ...]]


def filled(text: str, found: Figures) -> str:
    """The document with every block as these figures have it, or saying what they lack."""
    return _BLOCK.sub(lambda block: block[1] + _told(block[2], found) + block[3], text)


def _told(block: str, found: Figures) -> str:
    try:
        return as_table(BLOCKS[block](found))
    except KeyError as missing:
        return f"Not measured in the result at hand: {missing.args[0]}.\n"


def as_table(rows: Rows) -> str:
    """Markdown; the first row is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * lines[0].count(" | ") + "---|", *lines[1:], ""])


def cpu(found: Figures) -> Rows:
    """CPU of the stages beside the loop's."""
    yield "what, all of it exactly once with its state in Kafka", "CPU of the loop's"
    named = {
        "core": "decoding, validation, scrubbing, sessions, state (`core`)",
        "sessionize": "everything but the model, metrics too (`sessionize`)",
        "with_model": "everything: encoder, classifier, three records a session (`with_model`)",
    }
    for stage, name in named.items():
        yield name, _times(found["throughput"][stage])
    yield (
        "plain Faust, at least once, no model: one event at a time",
        _times(found["plain_faust"]["plain_faust"]),
    )


def runs(found: Figures) -> Rows:
    """Every mark in several whole runs."""
    yield "figure", "mark", *(f"run {number}" for number, _ in enumerate(found["runs"], 1))
    for name, mark, place in MARKS:
        yield name, mark, *(as_text(reduce(getitem, place, run)) for run in found["runs"])


def rates(found: Figures) -> Rows:
    """Absolute CPU a click, beside its yardstick's, and the broker's."""
    yield (
        "program",
        "yardstick",
        "CPU ratio [lowest, highest]",
        "rate",
        "µs a click",
        "yardstick's",
        "broker's",
    )
    yardsticks = {"delivery": "bare aiokafka"}
    for name, of in (found["throughput"] | found["plain_faust"]).items():
        yield (
            f"`{name}`",
            yardsticks.get(name, "loop"),
            _times(of),
            f"{of['rate_ratio']:.2f}",
            *(short(of[figure]) for figure in ("cpu_us", "yardstick_us", "broker_us")),
        )


def scaling(found: Figures) -> Rows:
    """Several processes beside one."""
    yield "processes", "rate, to that of one", "cores allow", "CPU a click, to that of one", "sessions/s"
    for name, of in found["processes"].items():
        figures = ("rate_ratio", "bound", "cpu_ratio", "sessions_per_s")
        yield f"`{name}`", *(_spread(of[figure]) for figure in figures)


def formats(found: Figures) -> Rows:
    """Avro and JSON."""
    yield "", "JSON, µs a click", "Avro, µs a click", "Avro to JSON"
    for name, of in found["formats"].items():
        yield f"`{name}`", *(_spread(of[figure]) for figure in ("json_us", "avro_us", "ratio"))


def latency(found: Figures) -> Rows:
    """By commit interval."""
    yield "commit interval", "p50, ms", "p99, ms", "sessions"
    for name, of in found["latency"].items():
        interval = "the loop, which commits nothing" if name == "loop" else f"{int(name):,} ms"
        yield interval, _spread(of["p50"]), _spread(of["p99"]), f"{of['sessions']:,}"


def state(found: Figures) -> Rows:
    """A million open sessions."""
    core, live, start = found["core_state"], found["live_state"], found["start_up"]
    yield "figure", "value", "measured on"
    yield "open sessions", f"{core['open_sessions']:,}", "the core alone"
    yield "resident memory", f"{core['rss_mb']:,.0f} MB", "the core alone"
    yield "an open session", f"{core['bytes_per_session']:,.0f} bytes", "the core alone"
    beside = f"cost of a click, beside that with {core['few']:,} open"
    yield beside, f"{_spread(core['vs_few'])} times", "the core alone"
    yield "open sessions", f"{live['open_sessions']:,}", "a worker"
    yield "resident memory, now and at most", f"{live['rss_mb']:,.0f}, {live['most_mb']:,.0f} MB", "a worker"
    stalls = ("steady_stall_cpu_ms", "steady_stall_wall_ms", "catching_up_stall_cpu_ms")
    steady, wall, catching_up = (f"{live[name]:.0f} ms" for name in stalls)
    yield "longest stall at 2,000 clicks/s (CPU, wall)", f"{steady}, {wall}", "a worker"
    yield "longest stall while catching up (CPU)", catching_up, "a worker"
    recovery = f"{live['recovery_s']:.1f} s, {live['take_over_s']:.1f} s"
    yield "recovery of all: from the process's start, take-over alone", recovery, "a worker after SIGKILL"
    bare = f"{live['changelog_mb']:,.0f} MB, {live['bare_read_s']:.1f} s"
    yield "its changelog, and reading that with aiokafka", bare, ""
    yield "start with little state", f"{start['restart_wall_s']:.1f} s", "a worker that was stopped"


def scoring(found: Figures) -> Rows:
    """As it is measured."""
    yield "figure", "value"
    for name, value in found["scoring"].items():
        yield f"`{name}`", as_text(value)


def replay(found: Figures) -> Rows:
    """Replay beside live."""
    yield "source", "clicks a CPU second", "live, in the same rounds", "replay to live"
    for name, of in found["replay"].items():
        yield name, *(_spread(of[figure]) for figure in ("per_core_s", "live_per_core_s", "vs_live"))


def partitions(found: Figures) -> Rows:
    """What commits of many partitions cost."""
    of = found["partitions"]
    yield (
        "partitions of one process",
        "CPU",
        "by the model",
        "broker's CPU",
        "commits/s",
        "ms a commit (wall)",
        "take-over, s",
        "memory, MB",
    )
    for count, each in of["steady"].items():
        yield (
            f"{int(count):,}",
            f"{each['cpu']:.2f}",
            _or_busy(of["predicted_cpu"].get(count), 1, ".2f", ""),
            f"{each['broker_cpu']:.2f}",
            f"{each['commits_per_s']:.0f}",
            *(short(each[figure]) for figure in ("commit_ms", "take_over_s")),
            f"{each['rss_mb']:.0f}",
        )


def units(found: Figures) -> Rows:
    """What the model is made from."""
    of = unit(found)
    yield "unit", "value", "command"
    for name, value, part in _units(of):
        yield name, value, f"`python -m benchmarks --only {part}`"


def _units(of: Unit) -> Iterator[tuple[str, str, str]]:
    yield "CPU a click, worker (u)", f"{of.click_cpu_s * 1e6:.1f} µs", "throughput"
    yield "CPU a click, broker (v)", f"{of.broker_click_cpu_s * 1e6:.1f} µs", "throughput"
    yield "CPU a commit, worker (t)", _or_busy(of.commit_cpu_s, 1e3, ".2f", " ms"), "partitions"
    yield "CPU a commit, broker (w)", _or_busy(of.broker_commit_cpu_s, 1e3, ".2f", " ms"), "partitions"
    yield "click in its topic (i)", f"{of.input_bytes:.0f} bytes", "live_state"
    yield "changelog a click (l)", f"{of.changelog_bytes:.0f} bytes", "changelog"
    yield "output a session (o)", f"{of.output_bytes:.0f} bytes", "outputs"
    yield "memory of a worker without sessions (M)", f"{of.process_mb:.0f} MB", "partitions"
    yield "memory an open session (m)", f"{of.session_bytes:.0f} bytes", "live_state"
    yield "changelog an open session (g)", f"{of.image_bytes:.0f} bytes", "changelog"
    yield "take-over, a million open sessions (r)", f"{of.recovery_s * 1e6:.1f} s", "live_state"


def identity(found: Figures) -> Rows:
    """What the identity stages take."""
    attribution, users = (found["identity"][stage] for stage in ("attribution", "users"))
    cost = found["identity_cost"]
    state, whole = "identity", "identity_cost"
    yield "figure", "value", "part"
    of_visitors, of_users = f"{attribution['keys']:,} visitors", f"{users['keys']:,} customers"
    yield f"attribution, {of_visitors} with a session each", f"{attribution['rss_mb']:,.0f} MB", state
    yield "a visitor", f"{attribution['bytes_per_key']:,.0f} bytes", state
    yield "recovery of these, in memory", f"{attribution['recovery_s']:.1f} s", state
    yield "CPU of an anonymous session", f"{attribution['us_per_session']:.0f} µs", state
    yield "CPU of one with a login, which claims another", f"{attribution['us_per_login']:.0f} µs", state
    yield f"users, {of_users} with 16 sessions each", f"{users['rss_mb']:,.0f} MB", state
    yield "a customer", f"{users['bytes_per_key']:,.0f} bytes", state
    yield "recovery of these, in memory", f"{users['recovery_s']:.1f} s", state
    yield "CPU of a session of a customer with 16", f"{users['us_per_session']:.0f} µs", state
    yield "CPU of a session in a worker without identity, µs", _spread(cost["with_model_us"]), whole
    yield "what identity adds, of a session in four with a login, µs", _spread(cost["identity_us"]), whole
    yield "the same, of the worker's CPU", _spread(cost["ratio"]), whole


def hand_over(found: Figures) -> Rows:
    """From a login to the customer's record."""
    of = found["hand_over"]
    yield "logins", "p50, ms", "p99, ms"
    yield f"{of['sessions']:,}", _spread(of["p50"]), _spread(of["p99"])


def planned(found: Figures) -> Rows:
    """Two loads, by the model."""
    loads = Load(1_000_000), Load.of_visitors(100_000_000)
    one, two = (plan(load, unit(found), Choices()) for load in loads)
    yield "", "1 million clicks/s", "100 million visitors a day"
    yield "clicks/s", *(f"{load.clicks_per_s:,.0f}" for load in loads)
    for (name, left), (_, right) in zip(_plan(one), _plan(two), strict=True):
        yield name, left, right


def _plan(of: Plan) -> Iterator[tuple[str, str]]:
    yield "sessions/s", f"{of.sessions_per_s:,.0f}"
    yield "open sessions", f"{of.open_sessions / 1e6:,.1f} million"
    yield "processes that the CPU asks for", f"{of.processes_for_cpu:,.1f}"
    yield "processes that the state asks for", f"{of.processes_for_state:,.1f}"
    yield "processes, a core each", f"{of.processes:,}"
    yield "partitions", f"{of.partitions:,}"
    yield "commits/s", f"{of.commits_per_s:,.0f}"
    yield "workers' cores for more commits", _or_busy(of.commit_cores, 1, ",.1f", "")
    yield "broker cores for clicks, without replication", f"{of.broker_cores:,.1f}"
    yield "broker cores for more commits", _or_busy(of.broker_commit_cores, 1, ",.1f", "")
    yield "memory a process", f"{of.memory_per_process_mb:,.0f} MB"
    yield "take-over of a whole process", f"{of.recovery_s:,.0f} s"
    yield "clicks in", f"{of.input_mb_s:,.0f} MB/s"
    yield "changelog", f"{of.changelog_mb_s:,.0f} MB/s"
    yield "outputs", f"{of.output_mb_s:,.0f} MB/s"
    yield "all that brokers write, three replicas", f"{of.disk_mb_s:,.0f} MB/s"
    yield "changelog on disk, three replicas", f"{of.changelog_gb:,.0f} GB"


BLOCKS: dict[str, Callable[[Figures], Rows]] = {
    block.__name__: block
    for block in (
        cpu,
        runs,
        rates,
        scaling,
        formats,
        latency,
        scoring,
        state,
        replay,
        partitions,
        identity,
        hand_over,
        units,
        planned,
    )
}


def _or_busy(value: float | None, factor: float, form: str, unit: str) -> str:
    return "the machine was too busy to tell" if value is None else f"{value * factor:{form}}{unit}"


def _times(of: Figures) -> str:
    low, high = short(of["lowest"]), short(of["highest"])
    return f"{short(of['cpu_ratio'])} [{low}, {high}] times"


def _spread(of: Figures) -> str:
    return f"{short(of['median'])} [{short(of['lowest'])}, {short(of['highest'])}]"


def figures() -> Figures:
    """The result that is quoted, and under `runs` all there are."""
    first, *others = (
        orjson.loads(each.read_bytes()) for each in (RESULT, *sorted(RESULT.parent.glob(AGAIN)))
    )
    return {**first, "runs": [first, *others]}


def main() -> None:
    """Fill in all documents."""
    found = figures()
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text(), found))


if __name__ == "__main__":
    main()
