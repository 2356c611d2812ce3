"""Token shards have what memory has, and are refused where they are torn or of another tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus, by_split
from streamer.models.training.pretrain import deterministic, pretrain
from streamer.models.training.token_shards import ShardsError, TokenShards, write_shards
from streamer.schemas.click import Session
from tests.models.hand_made import a_click, a_session, bank_sessions, of_length

EVERY = ("train", "validation", "test")
CONFIG = TrainConfig(dim=16, heads=2, hidden=32, epochs=2, batch=32, learning_rate=5e-3, min_count=3)


def fitted(sessions: list[Session]) -> Tokenizer:
    return Tokenizer.fit(by_split(sessions)["train"], min_count=3)


def same(mapped: Corpus, held: Corpus) -> bool:
    if mapped.size != held.size or len(mapped.buckets) != len(held.buckets):
        return False
    for one, other in zip(mapped.buckets, held.buckets, strict=True):
        if not one.rows.equal(other.rows):
            return False
        which = torch.randperm(len(one.rows))
        for a, b in zip(one.pick(which), other.pick(which), strict=True):
            if a.dtype != b.dtype or not a.equal(b):
                return False
        a, b = one.visitors_of(which), other.visitors_of(which)
        if not (a.unsqueeze(0) == a.unsqueeze(1)).equal(b.unsqueeze(0) == b.unsqueeze(1)):
            return False
    return True


@pytest.mark.parametrize("per_shard", [1, 7, 10_000])
def test_a_corpus_of_shards_has_what_one_in_memory_has(per_shard: int, tmp_path: Path) -> None:
    sessions = bank_sessions(300)
    tokenizer = fitted(sessions)
    write_shards(reversed(sessions), tokenizer, tmp_path / "tokens", per_shard=per_shard)
    shards = TokenShards.open(tmp_path / "tokens", tokenizer)
    for split in ("train", "validation"):
        held = Corpus.of(by_split(sessions)[split], tokenizer)
        assert same(shards.corpus(split), held)
        assert shards.count(split) == held.size


TEXT = st.text(max_size=6) | st.none()
CLICKS = st.lists(
    st.builds(
        a_click,
        st.integers(0, 10**7),
        search_query=TEXT,
        path=st.none() | st.sampled_from(["/", "/a", "/a/b/c"]),
        dwell_ms=st.none() | st.integers(0, 10**6),
        device=TEXT,
    ),
    min_size=1,
    max_size=64,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(CLICKS, min_size=1, max_size=8))
def test_any_session_comes_back_from_a_shard(
    tmp_path_factory: pytest.TempPathFactory, sessions: list[list[object]]
) -> None:
    made = [
        a_session(*clicks, session_id=f"{i:016x}" * 2, visitor_id="b") for i, clicks in enumerate(sessions)
    ]  # type: ignore[arg-type]
    tokenizer = Tokenizer.fit(made, min_count=1)
    folder = tmp_path_factory.mktemp("shards")
    shards = write_shards(made, tokenizer, folder, per_shard=3)
    assert same(shards.corpus("train"), Corpus.of(by_split(made)["train"], tokenizer))


def test_training_on_shards_gives_the_bytes_of_training_in_memory(tmp_path: Path) -> None:
    sessions = bank_sessions(240)
    tokenizer = fitted(sessions)
    mapped = write_shards(reversed(sessions), tokenizer, tmp_path, per_shard=50).corpus("train")
    held = Corpus.of(by_split(sessions)["train"], tokenizer)
    with deterministic(threads=1):
        a, b = (
            pretrain(corpus, tokenizer, CONFIG, torch.Generator().manual_seed(0), lambda *_: None)
            for corpus in (mapped, held)
        )
    assert a.losses == b.losses
    assert all(x.equal(y) for x, y in zip(a.encoder.parameters(), b.encoder.parameters(), strict=True))


def test_bots_and_sessions_without_clicks_are_in_no_shard(tmp_path: Path) -> None:
    person = replace(of_length(3), visitor_id="b")
    bot = replace(person, is_bot=True)
    shards = write_shards([bot, a_session(visitor_id="b"), person], fitted([person]), tmp_path)
    assert shards.corpus("train").size == 1


def test_no_text_of_a_click_is_in_a_shard(tmp_path: Path) -> None:
    session = a_session(
        a_click(path="/secret", search_query="hidden", product_id="p"), visitor_id="visitor-b"
    )
    write_shards([session], Tokenizer.fit([session], min_count=1), tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(text in content for text in (b"secret", b"hidden", b"visitor-b"))


def a_folder(path: Path) -> tuple[Path, Tokenizer]:
    sessions = bank_sessions(60)
    tokenizer = fitted(sessions)
    write_shards(sessions, tokenizer, path / "tokens", per_shard=20)
    return path / "tokens", tokenizer


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    folder, _ = a_folder(tmp_path)
    other = Tokenizer.fit([of_length(3, path="/other")], min_count=1)
    with pytest.raises(ShardsError, match="made by another tokenizer"):
        TokenShards.open(folder, other)


def test_a_torn_shard_is_refused(tmp_path: Path) -> None:
    folder, tokenizer = a_folder(tmp_path)
    torn = folder / "train-00001.arrow"
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(ShardsError, match=r"train-00001.arrow: torn: [\d,]+ bytes, expected"):
        TokenShards.open(folder, tokenizer)


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    folder, tokenizer = a_folder(tmp_path)
    damaged = folder / "train-00000.arrow"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ShardsError, match=r"train-00000.arrow: damaged: sha256"):
        TokenShards.open(folder, tokenizer)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    folder, tokenizer = a_folder(tmp_path)
    (folder / "train-00000.arrow").unlink()
    with pytest.raises(ShardsError, match=r"train-00000.arrow: can't be read"):
        TokenShards.open(folder, tokenizer)


def test_shards_that_were_not_written_to_their_end_are_refused(tmp_path: Path) -> None:
    folder, tokenizer = a_folder(tmp_path)
    (folder / "shards.json").unlink()
    with pytest.raises(ShardsError, match="no index of token shards; run the step 'fit' again"):
        TokenShards.open(folder, tokenizer)


def test_shards_of_another_format_are_refused(tmp_path: Path) -> None:
    folder, tokenizer = a_folder(tmp_path)
    index = json.loads((folder / "shards.json").read_text())
    (folder / "shards.json").write_text(json.dumps(index | {"format": 2}))
    with pytest.raises(ShardsError, match="format 2, expected 1"):
        TokenShards.open(folder, tokenizer)
