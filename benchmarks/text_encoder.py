"""The yardstick of scoring: a text encoder of MiniLM's size, int8, reading a session as text.

Six layers of width 384 with 12 heads, a vocabulary of 30,522, mean pooling, dynamically quantized, under
onnxruntime with one thread like the scorer's graphs. Its weights are chance: what is measured is time. Token
ids are made of words and signs, which are fewer than real word pieces. Needs the extra [train].
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import onnxruntime

LAYERS, WIDTH, HEADS, VOCABULARY, LONGEST = 6, 384, 12, 30_522, 512
_TOKENS = re.compile(r"\w+|[^\w\s]")


def text_encoder() -> Callable[[str], object]:
    """Text to embedding [1, WIDTH]; made anew, which takes some ten seconds."""
    with tempfile.TemporaryDirectory() as folder:
        graph = _quantized(Path(folder)).read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda text: session.run(None, {"ids": _ids(text)})[0]


def _ids(text: str) -> object:
    tokens = [crc32(token.encode()) % VOCABULARY for token in _TOKENS.findall(text)]
    return np.array([tokens[:LONGEST]], dtype=np.int64)


def _quantized(folder: Path) -> Path:
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(VOCABULARY, WIDTH)
            self.places = nn.Embedding(LONGEST, WIDTH)
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, activation="gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.layers(self.words(ids) + self.places.weight[: ids.shape[1]]).mean(1)

    logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends what exporting has done
    torch.backends.mha.set_fastpath_enabled(False)  # one that can't be exported
    whole, small = folder / "whole.onnx", folder / "small.onnx"
    torch.onnx.export(
        Encoder().eval(),
        (torch.zeros(1, 64, dtype=torch.int64),),
        whole,
        input_names=["ids"],
        dynamic_shapes={"ids": {1: torch.export.Dim("length", min=2, max=LONGEST)}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
    return small
