from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamer.models.graph_check import GraphRefused, check_graph
from streamer.models.runtime import Outputs, Runtime
from streamer.models.training import parity
from streamer.models.training.distill import ClassifierHead
from streamer.models.training.encoder import Encoder, EncoderShape
from streamer.models.training.export import BATCH_OF_LENGTH
from streamer.models.training.onnx_graphs import OPSET, encoder_graph, head_graph

MEAN = EncoderShape((40, 40, 40, 40, 40, 40, 40, 40, 17, 17), (35, 35, 25), dim=16, heads=2, hidden=32)
SHAPES = (MEAN, replace(MEAN, readout="mean+max+last"), replace(MEAN, readout="causal"))

Modules = tuple[Encoder, ClassifierHead]
Graphs = tuple[bytes, bytes]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.readout)
def modules(request: pytest.FixtureRequest) -> Modules:
    generator = torch.Generator().manual_seed(0)
    shape: EncoderShape = request.param
    encoder, head = Encoder(shape), ClassifierHead(shape.embedding_dim, 8, 5)
    encoder.initialize(generator)
    for buffer in head.parameters():
        torch.nn.init.normal_(buffer, generator=generator)
    head.novelty.centres.copy_(torch.randn(5, shape.embedding_dim, generator=generator))
    return encoder.eval(), head.eval()


@pytest.fixture(scope="module")
def graphs(modules: Modules) -> Graphs:
    return encoder_graph(modules[0]), head_graph(modules[1])


def test_torch_and_onnxruntime_agree_at_odd_shapes(modules: Modules, graphs: Graphs) -> None:
    runtime = Runtime(*graphs, BATCH_OF_LENGTH)
    assert parity.parity_error(*modules, graphs, runtime) <= parity.MAX_ERROR


def test_a_graph_of_other_weights_is_noticed(modules: Modules, graphs: Graphs) -> None:
    other = Encoder(modules[0].shape)
    other.initialize(torch.Generator().manual_seed(1))
    with pytest.raises(parity.ExportError, match="torch and onnxruntime differ"):
        parity.parity_error(other.eval(), modules[1], graphs, Runtime(*graphs, BATCH_OF_LENGTH))


def test_results_are_bit_equal_whatever_the_neighbours(graphs: Graphs) -> None:
    runtime = Runtime(*graphs, BATCH_OF_LENGTH)
    assert parity.check_neighbours(MEAN, runtime) == len(BATCH_OF_LENGTH) * parity.NEIGHBOUR_SETS


def test_a_result_that_changes_with_its_neighbours_is_noticed(graphs: Graphs) -> None:
    class Leaky(Runtime):
        def run(self, encoded: object) -> Outputs:
            found = super().run(encoded)  # type: ignore[arg-type]
            return found._replace(embeddings=found.embeddings + np.float32(1e-7) * len(found.embeddings))

    with pytest.raises(parity.ExportError, match="changes with its neighbours"):
        parity.check_neighbours(MEAN, Leaky(*graphs, BATCH_OF_LENGTH))


def test_the_same_weights_give_the_same_bytes(modules: Modules, graphs: Graphs) -> None:
    assert (encoder_graph(modules[0]), head_graph(modules[1])) == graphs


def test_eight_bits_are_close_and_change_with_their_neighbours(modules: Modules, graphs: Graphs) -> None:
    small = encoder_graph(modules[0], int8=True)
    runtime = Runtime(small, graphs[1], BATCH_OF_LENGTH)
    tokens = parity.random_tokens(MEAN, 40, 16, np.random.default_rng(0))
    exact, rounded = Runtime(*graphs, BATCH_OF_LENGTH).run(tokens), runtime.run(tokens)
    off = np.abs(exact.embeddings - rounded.embeddings).max()
    assert 1e-5 < off < 0.2
    assert any(differs for *_, differs in parity.neighbour_sets(MEAN, runtime))


def test_a_graph_in_eight_bits_is_let_through_only_as_such(modules: Modules) -> None:
    small = encoder_graph(modules[0], int8=True)
    check_graph(small, OPSET, int8=True)
    with pytest.raises(GraphRefused, match="DynamicQuantizeLinear"):
        check_graph(small, OPSET)
