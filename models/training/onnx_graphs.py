"""Encoder and head as ONNX graphs, written operator by operator.

torch's own exporters leave source paths in the file, rename at will and take seconds; these graphs are the
same bytes for the same weights, contain standard operators only, and one parity check keeps them equal to
`encoder.py`. Token tensors are flat, [B * (T+1), D], so that every linear layer is one Gemm; the queries of a
batch are one list, for most sessions have fewer than they might.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from streamer.models.fields import DWELL, SESSION_FIELDS
from streamer.models.queries import QUERY_GRAMS
from streamer.models.training.distill import ClassifierHead
from streamer.models.training.encoder import CAUSAL, MAX_CLICKS, MEAN, Block, Encoder, FieldTable
from streamer.models.training.novelty import Novelty

OPSET = 23
"""The first opset with Attention."""
_IR_VERSION = 11
_MOST_7_BITS = 63


class Graph:
    """Collects nodes and weights; names come from a counter, so that they are always the same."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, value: Tensor | npt.NDArray[Any] | np.generic) -> str:
        array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.ndim:
            array = np.ascontiguousarray(array)
        self._weights.append(numpy_helper.from_array(array, f"w{len(self._weights)}"))
        return str(self._weights[-1].name)

    def ints(self, *values: int) -> str:
        return self.weight(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def split(self, value: str, parts: int, axis: int) -> list[str]:
        names = [f"t{len(self._nodes)}_{part}" for part in range(parts)]
        self._nodes.append(helper.make_node("Split", [value], names, axis=axis, num_outputs=parts))
        return names

    def linear(self, x: str, layer: nn.Linear) -> str:
        """[N, in] to [N, out]"""
        return self.op("Gemm", x, self.weight(layer.weight), self.weight(layer.bias), transB=1)

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        weights = self.weight(layer.weight), self.weight(layer.bias)
        return self.op("LayerNormalization", x, *weights, axis=-1, epsilon=layer.eps)

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> bytes:
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="")
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


class Int8Graph(Graph):
    """Linear layers multiply 8-bit integers, whose range is that of the whole batch.

    Weights have one scale per output and 7 bits: with 8 a CPU without VNNI saturates, and CPUs would differ.
    """

    def linear(self, x: str, layer: nn.Linear) -> str:
        weight = layer.weight.detach().numpy().T
        scale = np.maximum(np.abs(weight).max(0), 1e-12) / _MOST_7_BITS
        rounded = np.round(weight / scale).astype(np.int8)
        names = [f"t{len(self._nodes)}_{part}" for part in ("x", "scale", "zero")]
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names))
        summed = self.op("MatMulInteger", names[0], self.weight(rounded), names[2])
        scales = self.op("Mul", names[1], self.weight(scale.astype(np.float32)))
        product = self.op("Mul", self.op("Cast", summed, to=TensorProto.FLOAT), scales)
        return self.op("Add", product, self.weight(layer.bias))


def encoder_graph(encoder: Encoder, int8: bool = False) -> bytes:
    """Inputs as `runtime.ENCODER_INPUTS`, output `embedding` [batch, D], as wide as the readout."""
    g = Int8Graph() if int8 else Graph()
    dim = encoder.shape.dim
    clicks_wide = _click_embeddings(g, encoder)
    batch = g.op("Shape", "dwell_z", start=0, end=1)
    clicks = g.op("Shape", "dwell_z", start=1, end=2)
    tokens = g.op("Add", clicks, g.ints(1))
    flat = g.ints(-1, dim)

    x = g.op("Reshape", clicks_wide, flat)
    hidden = g.op("Relu", g.linear(g.norm(x, encoder.norm_event), encoder.widen_event))
    x = g.op("Add", x, g.linear(hidden, encoder.narrow_event))
    x = g.op("Reshape", x, g.op("Concat", batch, clicks, g.ints(dim), axis=0))
    x = g.op("Add", x, _positions(g, encoder, clicks))
    x = g.op("Concat", _class_token(g, encoder), x, axis=1)
    x = g.op("Reshape", x, flat)

    at = g.op("Slice", g.weight(np.arange(MAX_CLICKS + 1, dtype=np.int32)), g.ints(0), tokens, g.ints(0))
    real = g.op("LessOrEqual", at, g.op("Unsqueeze", "lengths", g.ints(1)))
    each_for_each = g.op("Concat", batch, g.ints(1), tokens, tokens, axis=0)
    if encoder.shape.readout == CAUSAL:
        # Padding comes last, so that no token of a session sees it.
        visible = g.op("LessOrEqual", at, g.op("Unsqueeze", at, g.ints(1)))
    else:
        visible = g.op("Unsqueeze", real, g.ints(1, 2))
    seen = g.op("Expand", visible, each_for_each)
    by_session = g.op("Concat", batch, tokens, g.ints(dim), axis=0)
    for block in encoder.blocks:
        assert isinstance(block, Block)
        x = _block(g, block, x, seen, by_session, flat)

    x = g.norm(x, encoder.norm_out)
    x = g.op("Reshape", x, by_session)
    if encoder.shape.readout == MEAN:
        g.op("Div", *_pooled(g, real, x), output="embedding")
    else:
        mean = g.op("Div", *_pooled(g, real, x))
        g.op("Concat", mean, _maximum(g, real, x), _last(g, real, at, x), axis=1, output="embedding")
    columns = len(encoder.events.offsets)
    return g.model(
        "encoder", _encoder_inputs(columns), [_floats("embedding", "batch", encoder.shape.embedding_dim)]
    )


def _pooled(g: Graph, real: str, x: str) -> tuple[str, str]:
    """The sum of a session's tokens [B, D], and their number [B, 1].

    Summed by a matrix of two equal rows: this product adds in order, while a vector's product and ReduceSum
    add in groups that depend on the padding.
    """
    once = g.op("Unsqueeze", g.op("Cast", real, to=TensorProto.FLOAT), g.ints(1))
    twice = g.op("MatMul", g.op("Concat", once, once, axis=1), x)
    summed = g.op("Gather", twice, g.weight(np.int64(0)), axis=1)
    return summed, g.op("ReduceSum", once, g.ints(2), keepdims=0)


def _maximum(g: Graph, real: str, x: str) -> str:
    """[B, D]"""
    padding = g.op("Sub", g.op("Cast", real, to=TensorProto.FLOAT), g.weight(np.float32(1)))
    far_below = g.op("Unsqueeze", g.op("Mul", padding, g.weight(np.float32(1e9))), g.ints(2))
    return g.op("ReduceMax", g.op("Add", x, far_below), g.ints(1), keepdims=0)


def _last(g: Graph, real: str, at: str, x: str) -> str:
    """[B, D]: the sum of the tokens up to the last click that aren't before it."""
    until = g.op("Sub", g.op("Unsqueeze", "lengths", g.ints(1)), g.weight(np.int32(1)))
    before = g.op("Cast", g.op("LessOrEqual", at, until), to=TensorProto.FLOAT)
    alone = g.op("Sub", g.op("Cast", real, to=TensorProto.FLOAT), before)
    found = g.op("MatMul", g.op("Unsqueeze", alone, g.ints(1)), x)
    return g.op("Gather", found, g.weight(np.int64(0)), axis=1)


def _encoder_inputs(columns: int) -> list[onnx.ValueInfoProto]:
    def ints(name: str, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.INT32, shape)

    return [
        ints("event_ids", "batch", "clicks", columns),
        _floats("dwell_z", "batch", "clicks"),
        ints("query_slot", "batch", "clicks"),
        ints("query_ids", "queries", QUERY_GRAMS),
        ints("session_ids", "batch", len(SESSION_FIELDS)),
        ints("lengths", "batch"),
    ]


def _floats(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _table(g: Graph, table: FieldTable, ids: str, unread: int | None = None) -> str:
    """Sum over the last axis of ids; rows of id 0 and of the field `unread` are zero here, so that nothing
    need be masked."""
    rows = table.rows.weight.detach().numpy().copy()
    offsets = table.offsets.numpy()
    rows[offsets] = 0
    if unread is not None:
        rows[table.starts[unread] : table.starts[unread] + table.sizes[unread]] = 0
    gathered = g.op("Gather", g.weight(rows), g.op("Add", ids, g.weight(offsets)))
    return g.op("ReduceSum", gathered, g.ints(-2), keepdims=0)


def _click_embeddings(g: Graph, encoder: Encoder) -> str:
    """[B, T, D]"""
    queries = g.op("Gather", _queries(g, encoder), "query_slot")
    if encoder.shape.readout == CAUSAL:
        return g.op("Add", _table(g, encoder.events, "event_ids", DWELL), queries)
    fields = _table(g, encoder.events, "event_ids")
    dwell = g.op("Mul", g.op("Unsqueeze", "dwell_z", g.ints(2)), g.weight(encoder.dwell))
    return g.op("Add", g.op("Add", fields, dwell), queries)


def _queries(g: Graph, encoder: Encoder) -> str:
    """[queries, D]"""
    present = g.op("Cast", g.op("Greater", "query_ids", g.weight(np.int32(0))), to=TensorProto.FLOAT)
    count = g.op("Max", g.op("ReduceSum", present, g.ints(1), keepdims=1), g.weight(np.float32(1)))
    rows = g.op("Gather", g.weight(encoder.queries.weight), "query_ids")
    return g.op("Div", g.op("ReduceSum", rows, g.ints(1), keepdims=0), g.op("Sqrt", count))


def _positions(g: Graph, encoder: Encoder, clicks: str) -> str:
    """[B, T, D], or [T, D] where no click knows how many follow."""
    zero = g.ints(0)
    if encoder.shape.readout == CAUSAL:
        return g.op("Slice", g.weight(encoder.from_start), zero, clicks, zero)
    at = g.op("Slice", g.weight(np.arange(MAX_CLICKS, dtype=np.int32)), zero, clicks, zero)
    last = g.op("Sub", g.op("Unsqueeze", "lengths", g.ints(1)), g.weight(np.int32(1)))
    to_end = g.op("Max", g.op("Sub", last, at), g.weight(np.int32(0)))
    from_end = g.op("Gather", g.weight(encoder.from_end), to_end)
    return g.op("Add", from_end, g.op("Slice", g.weight(encoder.from_start), zero, clicks, zero))


def _class_token(g: Graph, encoder: Encoder) -> str:
    """[B, 1, D]"""
    token = g.op("Add", _table(g, encoder.session, "session_ids"), g.weight(encoder.class_token))
    return g.op("Unsqueeze", token, g.ints(1))


def _block(g: Graph, block: Block, x: str, seen: str, by_session: str, flat: str) -> str:
    """x [B * (T+1), D]; seen [B, 1, T+1, T+1] bool"""
    attended = g.linear(g.norm(x, block.norm_attention), block.queries_keys_values)
    parts = (g.op("Reshape", part, by_session) for part in g.split(attended, 3, axis=1))
    mixed = g.op("Attention", *parts, seen, q_num_heads=block.heads, kv_num_heads=block.heads)
    x = g.op("Add", x, g.linear(g.op("Reshape", mixed, flat), block.mix))
    hidden = g.op("Relu", g.linear(g.norm(x, block.norm_forward), block.widen))
    return g.op("Add", x, g.linear(hidden, block.narrow))


def head_graph(head: ClassifierHead) -> bytes:
    """Input `embedding` [batch, D]; outputs `logits` [batch, K] and `novelty` [batch]."""
    g = Graph()
    centred = g.op("Sub", "embedding", g.weight(head.mean))
    scaled = g.op("Mul", centred, g.weight(head.scale))
    weights = g.weight(head.decide.weight), g.weight(head.decide.bias)
    g.op("Gemm", g.op("Relu", g.linear(scaled, head.widen)), *weights, transB=1, output="logits")
    _novelty(g, head.novelty, centred, scaled, "logits")
    intents, dim = head.novelty.centres.shape
    return g.model(
        "classifier",
        [_floats("embedding", "batch", dim)],
        [_floats("logits", "batch", intents), _floats("novelty", "batch")],
    )


def _novelty(g: Graph, novelty: Novelty, centred: str, scaled: str, logits: str) -> None:
    whitened = g.op("Unsqueeze", g.op("MatMul", centred, g.weight(novelty.whiten)), g.ints(1))
    apart = g.op("Sub", whitened, g.weight(novelty.centres))
    squared = g.op("ReduceSum", g.op("Mul", apart, apart), g.ints(2), keepdims=0)
    nearest = g.op("ReduceMin", squared, g.ints(1), keepdims=1)
    others = g.op("Sub", g.weight(np.float32(1)), g.op("Softmax", logits, axis=1))
    doubt = g.op("ReduceMin", others, g.ints(1), keepdims=1)
    found = g.op("Concat", g.op("Sqrt", nearest), doubt, axis=1)
    evidence = g.op("Sub", found, g.weight(novelty.usual))
    weighed = g.op("ReduceSum", g.op("Mul", evidence, g.weight(novelty.weight)), g.ints(1), keepdims=0)
    predicted = g.linear(g.op("Relu", g.linear(scaled, novelty.widen)), novelty.narrow)
    g.op("Add", weighed, g.op("Reshape", predicted, g.ints(-1)), output="novelty")
