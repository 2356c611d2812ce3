from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamer.models.encoded import Encoded
from streamer.models.training.encoder import Encoder, EncoderShape, Tokens
from streamer.models.training.parity import random_tokens

SHAPE = EncoderShape((40, 40, 40, 40, 40, 40, 40, 40, 17, 17), (35, 35, 25), dim=16, heads=2, hidden=32)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    made = Encoder(SHAPE)
    made.initialize(torch.Generator().manual_seed(0))
    return made.eval()


def tensors(encoded: Encoded) -> Tokens:
    return Tokens(*(torch.from_numpy(getattr(encoded, name).copy()) for name in Tokens._fields))


def some(batch: int = 5, clicks: int = 8) -> Tokens:
    return tensors(random_tokens(SHAPE, batch, clicks, np.random.default_rng(2)))


def test_padding_adds_nothing(encoder: Encoder) -> None:
    tokens = some()
    wide = Tokens(
        *(torch.nn.functional.pad(t, (0, 0) * (t.dim() - 2) + (0, 3)) for t in tokens[:3]), *tokens[3:]
    )
    assert torch.allclose(encoder(*tokens), encoder(*wide), atol=1e-6)


def test_three_readouts_are_the_mean_the_maximum_and_the_last_click(encoder: Encoder) -> None:
    tokens = some()
    whole = Encoder(replace(SHAPE, readout="mean+max+last")).eval()
    whole.load_state_dict(encoder.state_dict())
    hidden, found = encoder.hidden_states(tokens), whole(*tokens)
    assert found.shape == (5, 48)
    for row, length in enumerate(tokens.lengths.tolist()):
        real = hidden[row, : 1 + length]
        assert torch.allclose(found[row], torch.cat([real.mean(0), real.amax(0), real[-1]]), atol=1e-6)


def test_the_causal_readout_has_what_each_click_knew_when_it_was_the_last(encoder: Encoder) -> None:
    tokens = some()
    causal = Encoder(replace(SHAPE, readout="causal")).eval()
    causal.load_state_dict(encoder.state_dict())
    found, width = causal(*tokens), SHAPE.dim
    for row, length in enumerate(tokens.lengths.tolist()):
        beginnings = [
            causal(*tokens._replace(lengths=torch.full_like(tokens.lengths, clicks)))[row]
            for clicks in range(length + 1)
        ]
        last = torch.stack([beginning[2 * width :] for beginning in beginnings])
        assert torch.allclose(found[row], torch.cat([last.mean(0), last.amax(0), last[-1]]), atol=1e-6)


def test_id_0_adds_nothing(encoder: Encoder) -> None:
    nothing = torch.zeros(1, 1, len(SHAPE.event_sizes), dtype=torch.int32)
    assert encoder.events(nothing).abs().max() == 0


def test_the_order_of_clicks_matters(encoder: Encoder) -> None:
    tokens = some(1, 8)._replace(lengths=torch.tensor([8], dtype=torch.int32))
    turned = tokens._replace(event_ids=tokens.event_ids.flip(1))
    assert not torch.allclose(encoder(*tokens), encoder(*turned), atol=1e-3)


def test_a_click_uses_its_own_query(encoder: Encoder) -> None:
    tokens = some(1, 8)._replace(query_slot=torch.tensor([[1, 0, 2, 0, 0, 0, 0, 0]], dtype=torch.int32))
    first, second = encoder.queries(tokens.query_ids)[0, :2].sum(1)
    count = (tokens.query_ids[0, :2] > 0).sum(1)
    found = encoder._embed_queries(tokens)[0]
    assert torch.allclose(found[0], first / count[0] ** 0.5, atol=1e-5)
    assert torch.allclose(found[2], second / count[1] ** 0.5, atol=1e-5)
    assert found[[1, 3]].abs().max() == 0


def test_the_same_generator_draws_the_same_weights() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(len(made))  # the global generator must not matter
        encoder = Encoder(SHAPE)
        encoder.initialize(torch.Generator().manual_seed(3))
        made.append(encoder.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
