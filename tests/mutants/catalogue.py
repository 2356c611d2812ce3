"""What is broken, how, and which test has to notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`old`, found exactly once in `file`, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    caught_by: str
    """Arguments of pytest, or `chaos:FAULT`."""


CORE = "streamer/core/sessionizer.py"
SHARD = "streamer/worker/shard.py"
OPEN_SHARDS = "streamer/worker/open_shards.py"
REBALANCE = "streamer/worker/rebalance.py"
START_CHECKS = "streamer/worker/start_checks.py"
TAKEOVER = "streamer/worker/takeover.py"
TRANSPORT = "streamer/worker/transport.py"

MUTANTS = (
    # -- transactions and state
    Mutant(
        "marker in a transaction after the outputs'",
        SHARD,
        "        group = await self._send(self._config.settings.changelog,",
        "        await all_of(sent)\n"
        "        await self.producer.commit_transaction()\n"
        "        self._config.reach(KillPoint.BEFORE_COMMIT)\n"
        "        await self.producer.begin_transaction()\n"
        "        group = await self._send(self._config.settings.changelog,",
        "chaos:kill",
    ),
    Mutant(
        "marker's position read after the wait for the scorer",
        SHARD,
        "        scored_at = time.monotonic()\n",
        "        scored_at = time.monotonic()\n"
        "        records = snapshot.records\n"
        "        records[-1] = encode(self._marker(len(records) - 1, snapshot.gone))\n",
        "tests/worker/test_commit.py",
    ),
    Mutant(
        "fencing off: a transactional id of each process's own",
        TAKEOVER,
        '{number: f"{app_id}-{number}" for',
        "{number: f\"{app_id}-{number}-{id(config)}-{__import__('os').getpid()}\" for",
        "chaos:zombie",
    ),
    Mutant(
        "seek skipped",
        TRANSPORT,
        "            await self.seek_wait(seeks)\n",
        "            pass\n",
        "tests/worker/test_worker.py -k group_offsets --timeout 60",
    ),
    Mutant(
        "one click further than the marker's position",
        OPEN_SHARDS,
        "self.consumer.request_seek(TP(self.topic, number), shard.position)",
        "self.consumer.request_seek(TP(self.topic, number), shard.position + 1)",
        "chaos:sigterm",
    ),
    Mutant(
        "accounts forgotten at a take-over",
        TAKEOVER,
        "marker.position, marker.counters,",
        "marker.position, None,",
        "chaos:sigterm",
    ),
    Mutant(
        "torn groups taken for whole ones",
        "streamer/worker/recovery.py",
        "            self._check(entry, offset)\n",
        "",
        "tests/worker/test_recovery.py",
    ),
    Mutant(
        "snapshots of sessions that go on growing",
        SHARD,
        "            chunks[1:] = map(rows_of, chunks[1:])\n",
        "",
        "tests/worker/test_commit.py",
    ),
    Mutant(
        "changelog trimmed up to its newest group",
        "streamer/worker/changelog_groups.py",
        "        return self._groups[0].offset if self._groups else None",
        "        return self._groups[-1].offset if self._groups else None",
        "tests/worker/test_changelog_groups.py",
    ),
    Mutant(
        "old snapshots never rewritten",
        "streamer/worker/changelog_groups.py",
        "        room = min(excess, REWRITE_STEP + 2 * changed)\n",
        "        room = 0\n",
        "tests/worker/test_changelog_groups.py",
    ),
    Mutant(
        "snapshots looked at again that were moved already",
        "streamer/worker/changelog_groups.py",
        "            last = group.visitors[-room:]",
        "            last = group.visitors[:room]",
        "tests/worker/test_changelog_groups.py",
    ),
    Mutant(
        "state of a newer version read all the same",
        "streamer/worker/changelog.py",
        "    if version not in _READABLE:",
        "    if False:",
        "tests/worker/test_recovery.py",
    ),
    Mutant(
        "another number of partitions not noticed",
        START_CHECKS,
        "    if of_open <= {clicks.partitions}:",
        "    if True:",
        "tests/worker/test_start_checks.py",
    ),
    Mutant(
        "state of another topic not noticed",
        START_CHECKS,
        "    if state.clicks and state.clicks != name:",
        "    if False:",
        "tests/worker/test_start_checks.py",
    ),
    Mutant(
        "a topic made anew not noticed",
        START_CHECKS,
        "    if state.clicks_id and topic_id and state.clicks_id != topic_id:",
        "    if False:",
        "tests/worker/test_start_checks.py",
    ),
    Mutant(
        "outputs of another app not noticed",
        START_CHECKS,
        "    if foreign and (own or not named):",
        "    if False:",
        "tests/worker/test_start_checks.py",
    ),
    Mutant(
        "lost clicks not counted",
        TAKEOVER,
        "        partition.counters.lost += lost\n",
        "",
        "chaos:source",
    ),
    Mutant(
        "state that is gone taken for a fresh start",
        START_CHECKS,
        "        if number in group:",
        "        if False:",
        "tests/worker/test_start_checks.py",
    ),
    Mutant(
        "SIGTERM drains",
        REBALANCE,
        "        await self.on_revoked()\n        await asyncio.gather(*(self._shards.drop",
        "        for shard in self._shards.by_number.values():\n"
        "            shard.partition.drain()\n"
        "        await self.on_revoked()\n        await asyncio.gather(*(self._shards.drop",
        "chaos:sigterm",
    ),
    Mutant(
        "nothing committed at the end",
        REBALANCE,
        "        await self.on_revoked()\n        await asyncio.gather(*(self._shards.drop",
        "        await asyncio.gather(*(self._shards.drop",
        "chaos:sigterm",
    ),
    Mutant(
        "a drain answers only for what is assigned to it",
        "streamer/worker/draining.py",
        "                return set(self._bounds)\n",
        "                return assigned & self._bounds.keys()\n",
        "tests/worker/test_draining.py -k killed",
    ),
    Mutant(
        "other session rules not noticed",
        START_CHECKS,
        "    if before != now and not options.accept_rules:",
        "    if False:",
        "tests/worker/test_takeover.py -k rules",
    ),
    # -- idleness
    Mutant(
        "a fetch that nobody answered proves idleness",
        "streamer/kafka/aiokafka_overrides/fetch_answers.py",
        "                if state.timestamp is None or not state.has_valid_position:",
        "                if not state.has_valid_position:",
        "chaos:network-cut",
    ),
    Mutant(
        "idleness while lagging",
        "streamer/worker/idleness.py",
        "    if empty is None or position < empty.records_end or seen_ms <= 0:",
        "    if empty is None or seen_ms <= 0:",
        "tests/worker/test_idleness.py",
    ),
    Mutant(
        "idleness moves the watermark",
        CORE,
        "            clock.now = arrival_ms\n",
        "            clock.now = arrival_ms\n"
        "            clock.watermark = max(clock.watermark, arrival_ms - self._out_of_orderness_ms)\n",
        "tests/core/test_idleness.py",
    ),
    Mutant(
        "closed at the timer's tick",
        CORE,
        "        return max(closes_at, window.opened_at, window.late_at)",
        "        return self.clock.now",
        "tests/core/test_idleness.py",
    ),
    # -- sessions
    Mutant(
        "duplicates counted as clicks",
        CORE,
        "        if window.holds(id_hash) or (earlier is not None and earlier.holds(id_hash)):\n"
        "            return True\n",
        "",
        "tests/core",
    ),
    Mutant(
        "watermark raised by a clock that runs ahead",
        CORE,
        "min(timestamp, clock.now) - self._out_of_orderness_ms",
        "timestamp - self._out_of_orderness_ms",
        "tests/core/test_watermark.py",
    ),
    Mutant(
        "closed at the watermark, not behind it",
        CORE,
        "self._ending_by(self.clock.watermark - 1)",
        "self._ending_by(self.clock.watermark)",
        "tests/core",
    ),
    Mutant(
        "gap exclusive",
        CORE,
        "window.started_at - self._gap_ms <= timestamp <= window.ended_at + self._gap_ms",
        "window.started_at - self._gap_ms < timestamp < window.ended_at + self._gap_ms",
        "tests/core",
    ),
    Mutant(
        "late clicks start sessions",
        CORE,
        "        if timestamp + self._gap_ms < self.clock.watermark - self._revise_within_ms and (\n",
        "        if False and (\n",
        "tests/core",
    ),
    Mutant(
        "bounds of a merged session forgotten",
        CORE,
        "        self.merged_duplicates += later.absorb(earlier)\n",
        "",
        "tests/core",
    ),
    Mutant(
        "sessions that closed early forgotten",
        CORE,
        "            and self._closed.remember(window)\n",
        "            and False\n",
        "tests/core/test_resent_clicks.py",
    ),
    Mutant(
        "ids of closed sessions not looked up where a click joins the next",
        CORE,
        "        return window.beside_closed and self._has_closed(visitor_id, id_hash)\n",
        "        return False\n",
        "tests/core/test_resent_clicks.py",
    ),
    Mutant(
        "late clicks move a start beside a closed session",
        CORE,
        "window is None or cap is not None or (window.beside_closed and timestamp <= window.started_at)",
        "window is None or cap is not None",
        "tests/core/test_resent_clicks.py",
    ),
    Mutant(
        "ids of closed sessions kept for ever",
        CORE,
        "            if risen > self._closed_ends.first:\n",
        "            if False:\n",
        "tests/core/test_resent_clicks.py",
    ),
    Mutant(
        "ids of closed sessions left behind by an erasure",
        CORE,
        "        if closed is not None and closed.opened_at <= until_ms:\n",
        "        if False:\n",
        "tests/core/test_resent_clicks.py",
    ),
    Mutant(
        "clicks of two users in one session",
        CORE,
        "    return a is not None and b is not None and a != b\n",
        "    return False\n",
        "tests/core/test_users.py",
    ),
    Mutant(
        "sessions of two users merge",
        CORE,
        "            if _differ(earlier.user_id, user_id or window.user_id):\n",
        "            if False:\n",
        "tests/core/test_users.py",
    ),
    Mutant(
        "another user's session between left open",
        CORE,
        '        if foreign is not None:\n            self._close_now(foreign, "user_change")\n',
        "",
        "tests/core/test_users.py",
    ),
    # -- Avro and predictions, which are compiled
    Mutant(
        "fields in the caller's order",
        "schemas/flat.py",
        "places.append(list(given).index(name))",
        "places.append(len(places) - len(encoded))",
        "tests/schemas/test_flat.py",
    ),
    Mutant(
        "any branch of a union taken for the second",
        "schemas/flat.py",
        "                if branch != 2:\n                    raise Declined\n",
        "",
        "tests/schemas/test_flat.py",
    ),
    Mutant(
        "an array of less than no records taken for an empty one",
        "schemas/flat.py",
        "                if count < 0:  # a block with its size\n                    raise Declined\n",
        "",
        "tests/schemas/test_flat.py",
    ),
    Mutant(
        "numbers of ten bytes read",
        "schemas/flat.py",
        "_LONGEST_SHIFT = 56",
        "_LONGEST_SHIFT = 63",
        "tests/schemas/test_flat.py",
    ),
    Mutant(
        "bytes after a record ignored",
        "schemas/flat.py",
        "        if at != len(data):\n            raise Declined\n",
        "",
        "tests/schemas/test_flat.py",
    ),
    Mutant(
        "the vector among the labels",
        "streamer/pipeline/records.py",
        "encoder.excerpt(self._of_intent, shared, vector)",
        "encoder.excerpt(self._of_intent, vector, vector)",
        "tests/pipeline/test_records.py",
    ),
    Mutant(
        "probabilities of the session before",
        "models/scorer.py",
        "first, reason = row * width, reasons[row]",
        "first, reason = max(row - 1, 0) * width, reasons[row]",
        "tests/models/test_scorer.py -k own_row",
    ),
    # -- a schema registry
    Mutant(
        "a record passed over whose schema isn't at hand",
        "streamer/pipeline/partition.py",
        "        self.counters.received -= 1\n        self.position = record.offset\n",
        "        self.counters.received -= 1\n",
        "tests/pipeline/test_registered.py -k goes_on_at",
    ),
    Mutant(
        "records of a schema registry without their header",
        "streamer/pipeline/registered.py",
        "            if name == SCHEMA_ID_HEADER and content:\n                return content + value\n",
        "            pass\n",
        "tests/pipeline/test_registered.py -k goes_on_at",
    ),
    Mutant(
        "microseconds of a registered schema taken for ms",
        "streamer/pipeline/registered.py",
        '    ("long", "timestamp-micros"): "click-micros",\n',
        '    ("long", "timestamp-micros"): None,\n',
        "tests/pipeline/test_registered.py -k times_are_ms",
    ),
    Mutant(
        "a schema that is nested deeply read",
        "streamer/pipeline/registered.py",
        "        if depth > MAX_NESTING:",
        "        if depth > 10 * MAX_NESTING:",
        "tests/pipeline/test_registered.py -k costs_more",
    ),
    Mutant(
        "consent of a registered record unheard where it breaks a rule",
        "streamer/pipeline/decode.py",
        "            if _declines(text):\n                return _DECLINED\n            raise\n",
        "            raise\n",
        "tests/pipeline/test_registered.py -k consent",
    ),
    Mutant(
        "a registry that is away given up at once",
        "streamer/registry/lookup.py",
        "if time.monotonic() - begun + pause > self._patience_s:",
        "if pause:",
        "tests/registry/test_lookup.py -k waited_for",
    ),
    Mutant(
        "a page that isn't there taken for a schema that isn't",
        "streamer/registry/client.py",
        "    return (\n        isinstance(answer, dict)\n",
        "    return True or (\n        isinstance(answer, dict)\n",
        "tests/registry/test_lookup.py -k refuses_or_is_none",
    ),
    Mutant(
        "outputs under the registry's id and our own",
        "streamer/registry/outputs.py",
        "prefix + value[codec.PREFIX_BYTES :]",
        "prefix + value",
        "tests/registry/test_with_a_registry.py -k stock",
    ),
)
