"""Runs faults and prints what happened: `python -m tests.chaos [FAULT]... [--seed N] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamer.kafka.jars import JarError
from tests.chaos.faults import FAULTS, Environment
from tests.chaos.namespaces import NoNamespacesError
from tests.chaos.scenario import Outcome
from tests.chaos.versions import PINNED, VERSIONS


def main() -> int:
    options = _options()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console(width=150)
    console.print(f"seed {options.seed}")
    outcomes: dict[str, Outcome] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Environment(Path(folder), kafka=options.kafka) as environment,
    ):
        for name in options.faults or [name for name in FAULTS if not FAULTS[name].only_by_name]:
            begin = time.monotonic()
            try:
                outcomes[name] = FAULTS[name].play(environment, options.seed, options.dose)
            except NoNamespacesError as error:
                console.print(f"{name}: skipped, for this machine allows no network namespaces: {error}")
                continue
            except JarError as error:
                console.print(f"{name}: skipped, for another version of Kafka can't be had: {error}")
                continue
            except (AssertionError, subprocess.TimeoutExpired) as error:
                outcomes[name] = Outcome(broken=[f"could not be played: {error}"])
            environment.end_workers(options.logs and options.logs / name)
            outcomes[name].notes["took, s"] = round(time.monotonic() - begin)
            said = outcomes[name].broken + outcomes[name].slow
            console.print(f"{name}: {'; '.join(said) if said else 'kept'}")
    console.print(_table(outcomes))
    if options.json:
        options.json.write_text(json.dumps({name: vars(each) for name, each in outcomes.items()}, indent=1))
    judged_by_time = options.dose == "full"
    return 0 if all(o.kept and not (judged_by_time and o.slow) for o in outcomes.values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"some of: {', '.join(FAULTS)}; none: all")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--dose", choices=("full", "short"), default="full")
    parser.add_argument("--kafka", choices=VERSIONS, default=PINNED, help="version of the brokers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes there")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="write the workers' logs there")
    options = parser.parse_args()
    unknown = set(options.faults) - FAULTS.keys()
    if unknown:
        parser.error(f"no fault {sorted(unknown)[0]!r}; there are {', '.join(FAULTS)}")
    return options


def _table(outcomes: dict[str, Outcome]) -> Table:
    table = Table("fault", "injected", "expected", "lost", "twice", "wrong", "longest", "")
    for name, outcome in outcomes.items():
        injected = ", ".join(f"{count} {kind}" for kind, count in outcome.faults.items())
        longest = ", ".join(f"{what} {max(times):g}" for what, times in outcome.times.items())
        notes = "; ".join(outcome.broken + outcome.slow) or ", ".join(
            f"{k} {v}" for k, v in outcome.notes.items()
        )
        numbers = (outcome.expected, outcome.lost, outcome.doubled, outcome.wrong)
        table.add_row(name, injected, *map(str, numbers), longest, notes, style="" if outcome.kept else "red")
    return table


if __name__ == "__main__":
    sys.exit(main())
