"""A bundle is refused, with a clear reason, unless it is whole, unchanged and fits together."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamer.models import bundle as bundles
from streamer.models.bundle import Bundle, BundleError, load_bundle
from streamer.models.memory import memory_bounded
from streamer.models.scorer import Scorer
from tests.models.hand_made import of_length


@pytest.fixture
def bundle(small_bundle_path: Path, tmp_path: Path) -> Path:
    """A copy to harm."""
    return Path(shutil.copytree(small_bundle_path, tmp_path / "bundle"))


def _edit_manifest(folder: Path, edit: Callable[[dict[str, object]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def _replace(folder: Path, name: str, content: bytes) -> None:
    """With a hash that fits: whoever can write the folder can write the manifest."""
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    _edit_manifest(folder, lambda m: m["files"].update({name: digest}))  # type: ignore[attr-defined]


def _replace_text(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    _replace(folder, name, text.replace(old, new, 1).encode())


def refused(folder: Path, reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as caught:
        load_bundle(folder)
    assert str(folder) in str(caught.value)


def test_a_trained_bundle_loads_and_is_named_by_its_manifest(small_bundle: Bundle) -> None:
    raw = (small_bundle.path / "manifest.json").read_bytes()
    assert small_bundle.model_version == "small@" + hashlib.sha256(raw).hexdigest()[:12]
    encoder = (small_bundle.path / "encoder.onnx").read_bytes()
    assert small_bundle.embedding_space == hashlib.sha256(encoder).hexdigest()[:12]
    assert small_bundle.embedding_dim == 16


def test_no_folder_is_said(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder")


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    refused(tmp_path, r"manifest\.json is missing")


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json", "selftest.json"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    refused(bundle, f"{name} is missing")


@pytest.mark.parametrize(
    "name", ["encoder.onnx", "classifier.onnx", "tokenizer.json", "taxonomy.json", "prototypes.json"]
)
def test_one_changed_byte_is_noticed(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    refused(bundle, f"{name} has sha256 .* the manifest says")


def test_a_link_is_not_followed(bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle / "encoder.onnx", tmp_path / "elsewhere.onnx")
    (bundle / "encoder.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    refused(bundle, r"encoder\.onnx is not a regular file")


def test_a_pipe_is_not_read(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()
    os.mkfifo(bundle / "tokenizer.json")
    refused(bundle, r"tokenizer\.json is not a regular file")


def test_a_huge_file_is_refused_unread(bundle: Path) -> None:
    with (bundle / "taxonomy.json").open("r+b") as file:
        file.truncate(1 << 40)
    refused(bundle, r"taxonomy\.json has 1099511627776 bytes, expected at most")


def test_a_manifest_that_names_files_elsewhere_is_refused(bundle: Path) -> None:
    _edit_manifest(bundle, lambda m: m["files"].update({"../../secret": "0" * 64}))  # type: ignore[attr-defined]
    refused(bundle, "must name exactly the files")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("format", 2, "format 2, expected 1"),
        ("name", "../x", "name must be"),
        ("batch_of_length", {"8": 8}, "batch_of_length must be for 8, 16, 32, 64"),
        ("batch_of_length", {"8": 8, "16": 8, "32": 8, "64": 1 << 30}, "between 1 and 1024"),
        ("embedding_dim", 17, "the encoder gives 16 numbers, the manifest says 17"),
        ("opset", 17, "operator set is not version 17"),
        ("opset", "x", "can't be read"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    bundle: Path, field: str, value: object, reason: str
) -> None:
    _edit_manifest(bundle, lambda m: m.update({field: value}))
    refused(bundle, reason)


def test_a_taxonomy_of_another_size_than_the_classifier_is_refused(bundle: Path) -> None:
    taxonomy = json.loads((bundle / "taxonomy.json").read_text())
    taxonomy["intents"].append({**taxonomy["intents"][0], "id": "one-more"})
    _replace(bundle, "taxonomy.json", json.dumps(taxonomy).encode())
    refused(bundle, "the classifier has .* intents, the taxonomy")


def test_a_bundle_without_prototypes_is_one_of_before(bundle: Path, small_bundle: Bundle) -> None:
    (bundle / "prototypes.json").unlink()
    refused(bundle, r"prototypes\.json is missing")
    _edit_manifest(bundle, lambda m: m["files"].pop("prototypes.json"))  # type: ignore[attr-defined]
    without = load_bundle(bundle)
    assert without.prototypes is None
    assert without.embedding_space == small_bundle.embedding_space


def test_prototypes_of_another_width_than_the_encoders_are_refused(bundle: Path) -> None:
    prototypes = json.loads((bundle / "prototypes.json").read_text())
    prototypes["centre"].append(0.0)
    for direction in prototypes["directions"]:
        direction.append(0.0)
    _replace(bundle, "prototypes.json", json.dumps(prototypes).encode())
    refused(bundle, "prototypes have 17 numbers, the encoder gives 16")


def test_prototypes_of_another_encoder_are_refused(bundle: Path, small_bundle: Bundle) -> None:
    _replace_text(bundle, "prototypes.json", small_bundle.embedding_space, "0123456789ab")
    refused(bundle, "prototypes are of the embedding space 0123456789ab, the encoder's is")


def test_a_graph_with_a_foreign_operator_is_refused(bundle: Path) -> None:
    content = (bundle / "classifier.onnx").read_bytes()
    assert content.count(b"Relu") == 2
    _replace(bundle, "classifier.onnx", content.replace(b"Relu", b"Elu2"))
    refused(bundle, r"classifier\.onnx: the operator 'Elu2'")


def test_classifier_and_encoder_swapped_are_refused(bundle: Path) -> None:
    encoder, classifier = (bundle / "encoder.onnx").read_bytes(), (bundle / "classifier.onnx").read_bytes()
    _replace(bundle, "encoder.onnx", classifier)
    _replace(bundle, "classifier.onnx", encoder)
    refused(bundle, "the encoder's inputs are not those of the tokenizer")


def test_a_tokenizer_with_other_ids_fails_the_self_test(bundle: Path) -> None:
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    tokenizer["vocabularies"]["path_1"].reverse()
    _replace(bundle, "tokenizer.json", json.dumps(tokenizer).encode())
    refused(bundle, "self-test: the embedding of session")


def test_a_tokenizer_with_more_ids_than_the_encoder_is_refused(bundle: Path) -> None:
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    tokenizer["vocabularies"]["path_1"] += [f"/x{i}" for i in range(10_000)]
    _replace(bundle, "tokenizer.json", json.dumps(tokenizer).encode())
    refused(bundle, "other numbers of ids than the encoder was made for")


def test_stored_results_that_differ_fail_the_self_test(bundle: Path) -> None:
    stored = json.loads((bundle / "selftest.json").read_text())
    stored["expected"][3]["embedding"][0] += 1e-3
    _replace(bundle, "selftest.json", json.dumps(stored).encode())
    refused(bundle, "self-test: the embedding of session 3 is off by 0.001")


def test_an_empty_self_test_is_refused(bundle: Path) -> None:
    _replace(bundle, "selftest.json", b'{"sessions": [], "expected": []}')
    refused(bundle, "at least one")


def test_a_calibration_out_of_bounds_is_refused(bundle: Path) -> None:
    calibration = json.loads((bundle / "calibration.json").read_text())
    _replace(bundle, "calibration.json", json.dumps(calibration | {"temperature": 0}).encode())
    refused(bundle, "temperature is 0")


@pytest.mark.parametrize("start", ["embedding", "constant"])
def test_a_small_graph_that_asks_for_endless_memory_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    onnx = pytest.importorskip("onnx")
    before = resource.getrlimit(resource.RLIMIT_AS)
    monkeypatch.setattr(bundles, "_MORE_BYTES", 256 << 20)
    model = onnx.load(str(bundle / "classifier.onnx"))
    constant = onnx.numpy_helper.from_array(np.ones((1, 1024), np.float32), "constant")
    model.graph.initializer.append(constant)
    names = [start, *(f"joined-{i}" for i in range(40))]
    for i, (name, longer) in enumerate(itertools.pairwise(names)):
        model.graph.node.insert(i, onnx.helper.make_node("Concat", [name, name], [longer], axis=0))
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[list(last.output).index("logits")] = "true-logits"
    model.graph.node.append(onnx.helper.make_node("ReduceSum", [names[-1]], ["sum"], keepdims=0))
    model.graph.node.append(onnx.helper.make_node("Add", ["true-logits", "sum"], ["logits"]))
    _replace(bundle, "classifier.onnx", model.SerializeToString())
    refused(bundle, r"onnxruntime refuses the graph|self-test can't be run|more than")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_bound_on_memory_holds_inside_and_not_after() -> None:
    with pytest.raises(MemoryError), memory_bounded(64 << 20):
        bytearray(1 << 30)
    assert len(bytearray(128 << 20)) == 128 << 20


def test_serving_imports_no_torch() -> None:
    code = """
import sys, streamer.models.bundle, streamer.models.scorer
print('torch' in sys.modules, 'sklearn' in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_a_copy_of_a_bundle_is_the_same_model(bundle: Path, small_bundle: Bundle) -> None:
    copy = load_bundle(bundle)
    assert copy.model_version == small_bundle.model_version
    (ours,), (theirs,) = Scorer(copy).score([of_length(5)]), Scorer(small_bundle).score([of_length(5)])
    assert ours.embedding.tobytes() == theirs.embedding.tobytes()  # type: ignore[union-attr]
