"""What an ONNX file must not hold. The files are written with `onnx`, which serving doesn't have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.models.graph_check import MAX_NODES, GraphRefused, check_graph

onnx = pytest.importorskip("onnx")

OPSET = 23


def a_model() -> Any:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "xy")
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=11)


def check(model: Any) -> None:
    check_graph(model.SerializeToString(), OPSET)


def test_a_plain_graph_is_let_through() -> None:
    check(a_model())


def _external(model: Any) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = 1
    weight.external_data.add(key="location", value="../../etc/passwd")


def _domain_of_a_node(model: Any) -> None:
    model.graph.node[0].domain = "com.evil"


def _second_domain(model: Any) -> None:
    model.opset_import.add(domain="com.microsoft", version=1)


def _other_domain(model: Any) -> None:
    model.opset_import[0].domain = "com.evil"


def _other_opset(model: Any) -> None:
    model.opset_import[0].version = OPSET + 1


def _function(model: Any) -> None:
    model.functions.add(name="f", domain="")


def _unlisted_operator(model: Any) -> None:
    model.graph.node[0].op_type = "Loop"


def _subgraph(model: Any) -> None:
    attribute = model.graph.node[0].attribute.add(name="body", type=5)
    attribute.g.name = "inner"


def _nan(model: Any) -> None:
    model.graph.initializer[0].raw_data = np.full((2, 2), np.nan, "<f4").tobytes()


def _infinite(model: Any) -> None:
    model.graph.initializer[0].raw_data = np.full((2, 2), np.inf, "<f4").tobytes()


def _huge_shape(model: Any) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 40, 1 << 40])


def _negative_shape(model: Any) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([-2, -2])


def _floats_in_fields(model: Any) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.float_data.extend([1, 2, 3, 4])


def _sparse(model: Any) -> None:
    model.graph.sparse_initializer.add()


def _strings(model: Any) -> None:
    model.graph.initializer[0].data_type = 8


def _many_nodes(model: Any) -> None:
    node = model.graph.node[0]
    model.graph.node.extend([node] * MAX_NODES)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_external, "external data"),
        (_domain_of_a_node, "domain 'com.evil' is not a standard"),
        (_second_domain, "one operator set"),
        (_other_domain, "domain 'com.evil' is not the standard"),
        (_other_opset, "not version 23"),
        (_function, "functions of its own"),
        (_unlisted_operator, "operator 'Loop'"),
        (_subgraph, "a subgraph"),
        (_nan, "not a finite number"),
        (_infinite, "not a finite number"),
        (_huge_shape, "shape does not match"),
        (_negative_shape, "shape does not match"),
        (_floats_in_fields, "the field 4"),
        (_sparse, "the field 15"),
        (_strings, "not one array"),
        (_many_nodes, "at most 5000"),
    ],
)
def test_what_bundles_do_not_use_is_refused(harm: Callable[[Any], None], reason: str) -> None:
    model = a_model()
    harm(model)
    with pytest.raises(GraphRefused, match=reason):
        check(model)


def test_two_graphs_in_one_file_are_refused_though_protobuf_would_merge_them() -> None:
    raw = a_model().SerializeToString()
    with pytest.raises(GraphRefused, match="one graph"):
        check_graph(raw + raw, OPSET)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_checked_but_never_crash(data: bytes) -> None:
    with pytest.raises(GraphRefused):
        check_graph(data, OPSET)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_file_never_crashes_the_check(data: st.DataObject) -> None:
    raw = bytearray(a_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(GraphRefused):
        check_graph(bytes(raw), OPSET)
