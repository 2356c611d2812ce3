"""Every example of schemas/examples does what its folder and its name say.

`invalid/<what>--<note>.json`: for a click, what is the reason it is refused for, with `-` for `:`; for an
output, the field that doesn't fit. `valid/json_only--<note>.json` is a click that only JSON can spell.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamer.pipeline.decode import ClickDecoder, Rejected
from streamer.schemas import codec

EXAMPLES = codec.FOLDER / "examples"
ARRIVAL_MS = 1_795_046_400_300


def examples(kind: str, *, click: bool) -> list[Any]:
    files = sorted(EXAMPLES.glob(f"*/{kind}/*.json"))
    return [
        pytest.param(file, id=f"{file.parts[-3]}-{file.stem}")
        for file in files
        if (file.parts[-3] == "click") is click
    ]


def what(file: Path) -> str:
    return file.stem.split("--")[0]


def schema_of(file: Path) -> codec.SchemaName:
    return next(name for name in codec.SCHEMA_NAMES if name == file.parts[-3])


@pytest.mark.parametrize("file", examples("valid", click=True))
def test_valid_click_arrives_from_json(file: Path) -> None:
    decoded = ClickDecoder().decode(file.read_bytes(), ARRIVAL_MS, "fallback")
    assert (decoded is None) == (what(file) == "no_consent")


@pytest.mark.parametrize("file", [e for e in examples("valid", click=True) if "json_only" not in e.id])
def test_valid_click_is_the_same_from_avro_as_from_json(file: Path) -> None:
    record = json.loads(file.read_bytes())
    assert codec.misfits("click", record) == []
    from_avro = ClickDecoder().decode(codec.encode("click", record), ARRIVAL_MS, "fallback")
    assert from_avro == ClickDecoder().decode(file.read_bytes(), ARRIVAL_MS, "fallback")


@pytest.mark.parametrize("file", examples("invalid", click=True))
def test_invalid_click_is_refused_for_the_reason_in_its_name(file: Path) -> None:
    with pytest.raises(Rejected) as refused:
        ClickDecoder("json").decode(file.read_bytes(), ARRIVAL_MS, "fallback")
    assert refused.value.reason.replace(":", "-") == what(file)


@pytest.mark.parametrize("file", examples("valid", click=False))
def test_valid_output_comes_back_as_it_went(file: Path) -> None:
    record = json.loads(file.read_bytes())
    name = schema_of(file)
    assert codec.misfits(name, record) == []
    fields = codec.schema(name)["fields"]
    missing = {field["name"]: field["default"] for field in fields if field["name"] not in record}
    assert codec.decode(codec.encode(name, record)) == (name, {**record, **missing})


@pytest.mark.parametrize("file", examples("invalid", click=False))
def test_invalid_output_is_refused_and_the_error_names_the_field(file: Path) -> None:
    record = json.loads(file.read_bytes())
    assert codec.misfits(schema_of(file), record) == [what(file)]
    with pytest.raises(codec.CodecError, match=rf"\b{what(file)}$"):
        codec.encode(schema_of(file), record)


@pytest.mark.parametrize("name", codec.SCHEMA_NAMES)
@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_every_schema_has_examples_of_both_kinds(name: str, kind: str) -> None:
    assert len(list((EXAMPLES / name / kind).glob("*.json"))) >= 5
