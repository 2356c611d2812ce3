"""Checks an ONNX file before anything runs it: only what a bundle's graphs need is allowed.

Reads the protobuf wire format itself, for serving has no `onnx` package. It is an allow list: fields,
operators and tensor types not listed are refused, and with them external data, custom domains, functions,
subgraphs and weights that aren't finite numbers. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, Final

import numpy as np

MAX_NODES: Final = 5000
OPERATORS: Final = frozenset(
    """
    Add Attention Cast Concat Div Expand Gather Gemm Greater LayerNormalization LessOrEqual MatMul Max Mul
    ReduceMax ReduceMin ReduceSum Relu Reshape Shape Slice Softmax Split Sqrt Sub Unsqueeze
    """.split()  # noqa: SIM905, a list of 25 lines says no more
)
INT8_OPERATORS: Final = frozenset({"DynamicQuantizeLinear", "MatMulInteger"})
"""Only in bundles whose manifest says int8."""
_TENSOR_TYPES: Final[dict[int | memoryview, np.dtype[Any]]] = {
    1: np.dtype("<f4"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
}
_INT8_TYPES: Final[dict[int | memoryview, np.dtype[Any]]] = {3: np.dtype("i1")}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_STANDARD_DOMAINS = (b"", b"ai.onnx")

_MODEL = {1: "ir_version", 2: "producer_name", 3: "producer_version", 7: "graph", 8: "opset_import"}
_GRAPH = {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output"}
_NODE = {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute", 7: "domain"}
_ATTRIBUTE = {1: "name", 2: "f", 3: "i", 8: "ints", 20: "type"}
_TENSOR = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"}
_OPSET = {1: "domain", 2: "version"}
_NAMES = {"external_data": 13, "data_location": 14}


class GraphRefused(Exception):  # noqa: N818, an outcome rather than a mistake of ours
    """Why a graph is refused, in a few words."""


def check_graph(data: bytes, opset: int, int8: bool = False) -> None:
    """Raises GraphRefused unless `data` is a model of this opset made only of what is allowed."""
    operators = OPERATORS | INT8_OPERATORS if int8 else OPERATORS
    types = _TENSOR_TYPES | _INT8_TYPES if int8 else _TENSOR_TYPES
    model = _message(memoryview(data), _MODEL, "model")
    opsets = model.get("opset_import", [])
    if len(opsets) != 1 or len(model.get("graph", [])) != 1:
        raise GraphRefused("a model must have one graph and one operator set")
    _check_opset(_bytes(opsets[0]), opset)
    graph = _message(_bytes(model["graph"][0]), _GRAPH, "graph")
    nodes = graph.get("node", [])
    if len(nodes) > MAX_NODES:
        raise GraphRefused(f"it has {len(nodes)} operators, expected at most {MAX_NODES}")
    for node in nodes:
        _check_node(_bytes(node), operators)
    for tensor in graph.get("initializer", []):
        _check_tensor(_bytes(tensor), types)


def _check_opset(data: memoryview, expected: int) -> None:
    opset = _message(data, _OPSET, "operator set")
    domain = _text(opset, "domain")
    if domain not in _STANDARD_DOMAINS:
        raise GraphRefused(f"the operator domain {_shown(domain)} is not the standard one")
    if opset.get("version") != [expected]:
        raise GraphRefused(f"the operator set is not version {expected}")


def _check_node(data: memoryview, operators: frozenset[str]) -> None:
    node = _message(data, _NODE, "operator")
    kind, domain = _text(node, "op_type"), _text(node, "domain")
    if domain not in _STANDARD_DOMAINS:
        raise GraphRefused(f"an operator of the domain {_shown(domain)} is not a standard one")
    if kind.decode("ascii", "replace") not in operators:
        raise GraphRefused(f"the operator {_shown(kind)} is not one that bundles use")
    for attribute in node.get("attribute", []):
        _message(_bytes(attribute), _ATTRIBUTE, f"operator {_shown(kind)}'s attribute")


def _check_tensor(data: memoryview, types: Mapping[int | memoryview, np.dtype[Any]]) -> None:
    tensor = _message(data, _TENSOR, "weight")
    kind = tensor.get("data_type", [0])
    if len(kind) != 1 or kind[0] not in types or len(tensor.get("raw_data", [])) > 1:
        raise GraphRefused("a weight is not one array of float32, int32 or int64")
    dtype = types[kind[0]]
    shape = [int(n) for part in tensor.get("dims", []) for n in _integers(part)]
    raw = _bytes(tensor.get("raw_data", [memoryview(b"")])[0])
    if any(n < 0 or n > len(data) for n in shape) or prod(shape) * dtype.itemsize != len(raw):
        raise GraphRefused("a weight's shape does not match its data")
    if dtype.kind == "f" and not np.isfinite(np.frombuffer(raw, dtype)).all():
        raise GraphRefused("a weight is not a finite number")


_Value = int | memoryview


def _message(data: memoryview, allowed: dict[int, str], what: str) -> dict[str, list[_Value]]:
    """The values of each field, by name."""
    found: dict[str, list[_Value]] = {}
    for number, value in _fields(data):
        name = allowed.get(number)
        if name is None:
            raise GraphRefused(f"a {what} has {_field_name(what, number)}, which bundles do not use")
        found.setdefault(name, []).append(value)
    return found


def _field_name(what: str, number: int) -> str:
    if what == "weight" and number in _NAMES.values():
        return "external data"
    if what.endswith("attribute") and number in (6, 11):
        return "a subgraph"
    if what == "model" and number == 25:
        return "functions of its own"
    return f"the field {number}"


def _fields(data: memoryview) -> Iterator[tuple[int, _Value]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        read = _READERS.get(wire_type)
        if read is None or number == 0:
            raise GraphRefused("it is not a valid ONNX file")
        value, at = read(data, at)
        yield number, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise GraphRefused("it is not a valid ONNX file")


def _cut(data: memoryview, at: int, length: int) -> tuple[memoryview, int]:
    if length > len(data) - at:
        raise GraphRefused("it is not a valid ONNX file: it breaks off")
    return data[at : at + length], at + length


def _sized(data: memoryview, at: int) -> tuple[memoryview, int]:
    length, at = _varint(data, at)
    return _cut(data, at, length)


_READERS: Final[dict[int, Callable[[memoryview, int], tuple[_Value, int]]]] = {
    _VARINT: _varint,
    _FIXED64: lambda data, at: _cut(data, at, 8),
    _BYTES: _sized,
    _FIXED32: lambda data, at: _cut(data, at, 4),
}


def _integers(value: _Value) -> Iterator[int]:
    """One integer, or several packed into one field."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _bytes(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise GraphRefused("it is not a valid ONNX file")
    return value


def _text(message: dict[str, list[_Value]], name: str) -> bytes:
    values = message.get(name, [memoryview(b"")])
    if len(values) != 1:
        raise GraphRefused("it is not a valid ONNX file")
    return bytes(_bytes(values[0]))


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("ascii", "replace"))
