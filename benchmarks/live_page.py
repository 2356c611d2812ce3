"""The live page under a steady stream: what its process and the browser take.

Records of sessions and visitors are made as a worker makes them and published at a steady rate, so that
nothing but the page is measured. A headless Chromium has the page open.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from playwright.sync_api import sync_playwright

from benchmarks.installation import cpu_s
from streamer.kafka.embedded import EmbeddedKafka
from streamer.models.bundle import Bundle, default_bundle, load_bundle
from streamer.schemas import codec

_LINK = re.compile(r"live page: (\S+)")
_WARM_UP_S = 8


def main() -> None:
    """Prints a row for each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-minute", type=int, default=5000, help="sessions")
    parser.add_argument("--seconds", type=int, default=30, help="measured, of each page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder), say=print) as broker:
        environment = os.environ | {"STREAMER_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap}
        command = [sys.executable, "-c", "from streamer.cli import main; main()"]
        subprocess.run([*command, "topics", "create"], env=environment, check=True, stdout=subprocess.DEVNULL)
        stop = threading.Event()
        sending = threading.Thread(target=_send, args=(broker.bootstrap, options.per_minute / 60, stop))
        page = subprocess.Popen(
            [*command, "ui", "--port", "0", "--from", "latest"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert page.stderr is not None
            found = _LINK.search(page.stderr.readline())
            assert found is not None
            sending.start()
            time.sleep(60)  # so that the last minute is full
            _measure(page.pid, found[1], options.seconds)
        finally:
            stop.set()
            sending.join()
            page.terminate()
            page.wait()


def _measure(pid: int, link: str, seconds: int) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        tab = browser.new_page()
        tab.goto(link)
        address = link.partition("/?")[0]
        for path in ("/", "/map", "/intents"):
            tab.goto(address + path)
            tab.wait_for_timeout(_WARM_UP_S * 1000)
            before, begun = (cpu_s(pid), _cpu_of_browser_s()), time.monotonic()
            tab.wait_for_timeout(seconds * 1000)
            passed = time.monotonic() - begun
            own, browsers = cpu_s(pid) - before[0], _cpu_of_browser_s() - before[1]
            # How long a frame takes, next to what a reader would notice.
            frame_ms = tab.evaluate(
                "new Promise(done => { const begun = performance.now(); requestAnimationFrame("
                "() => requestAnimationFrame(() => done(performance.now() - begun))) })"
            )
            told = tab.get_by_text("too many to read").all_inner_texts()
            print(
                f"{path:<9} page process {own / passed:.2f} cores, browser {browsers / passed:.2f} cores,"
                f" two frames {frame_ms:.0f} ms, {_memory_mb(pid)} MB  {' '.join(told)}",
                flush=True,
            )
        browser.close()


def _send(bootstrap: str, per_s: float, stop: threading.Event) -> None:
    bundle, chance = load_bundle(default_bundle()), random.Random(7)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    begun, sent = time.monotonic(), 0
    while not stop.wait(0.05):
        due = int((time.monotonic() - begun) * per_s)
        for _ in range(sent, due):
            session = _a_session(bundle, chance)
            vector = [chance.gauss(0, 1) for _ in range(bundle.embedding_dim)]
            visitor = session | {"embedding": vector, "embedding_space": bundle.embedding_space}
            key = session["visitor_id"]
            producer.produce("web.session-intents.v1", codec.encode("session_intent", session), key)
            producer.produce("web.visitor-intents.v1", codec.encode("visitor_intent", visitor), key)
        sent = due
        producer.poll(0)
    producer.flush(10)


def _a_session(bundle: Bundle, chance: random.Random) -> dict[str, Any]:
    best, now_ms = chance.sample(bundle.taxonomy.intents, 5), int(time.time() * 1000)
    return {
        "session_id": f"{chance.getrandbits(128):032x}",
        "visitor_id": f"v-{chance.randrange(20_000)}",
        "user_id": f"u-{chance.randrange(5000)}" if chance.random() < 0.25 else None,
        "started_at": now_ms - 600_000,
        "ended_at": now_ms - 60_000,
        "closed_at": now_ms,
        "event_count": chance.randint(1, 40),
        "close_reason": "gap",
        "is_final": True,
        "revision": 0,
        "supersedes": None,
        "is_bot": False,
        "rules_version": "00000000",
        "model_version": bundle.model_version,
        "taxonomy_version": bundle.taxonomy.version,
        "intents": [
            {"intent_id": each.id, "label": each.label, "parent": each.parent, "probability": 0.8 / (at + 1)}
            for at, each in enumerate(best)
        ],
        "top_intent": best[0].id,
        "abstained": False,
        "abstain_reason": None,
    }


def _cpu_of_browser_s() -> float:
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"chromium" in (folder / "cmdline").read_bytes() and _is_ours(folder):
                total += cpu_s(int(folder.name))
        except OSError:
            continue
    return total


def _is_ours(folder: Path) -> bool:
    """Whether this process is among the ancestors."""
    pid = int(folder.name)
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def _memory_mb(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


if __name__ == "__main__":
    main()
