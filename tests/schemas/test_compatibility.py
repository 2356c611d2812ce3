from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.schemas import codec, compatibility
from streamer.schemas.codec import Record

Change = Callable[[list[Record]], None]


def changed(name: codec.SchemaName, change: Change) -> Record:
    schema = copy.deepcopy(codec.schema(name))
    change(schema["fields"])
    return schema


def at(fields: list[Record], name: str) -> Record:
    return next(field for field in fields if field["name"] == name)


@pytest.mark.parametrize("name", codec.SCHEMA_NAMES)
def test_every_schema_is_compatible_with_all_its_landed_versions(name: codec.SchemaName) -> None:
    assert compatibility.breaks(codec.schema(name), codec.landed(name)) == []


@pytest.mark.parametrize("name", codec.SCHEMA_NAMES)
def test_every_landed_version_is_compatible_with_the_ones_before_it(name: codec.SchemaName) -> None:
    versions = codec.landed(name)
    for number, version in enumerate(versions):
        assert compatibility.breaks(version, versions[:number]) == []


def remove_required(fields: list[Record]) -> None:
    fields.remove(at(fields, "visitor_id"))


def add_required(fields: list[Record]) -> None:
    fields.append({"name": "added", "type": "string"})


def rename(fields: list[Record]) -> None:
    at(fields, "visitor_id")["name"] = "visitor"


def widen(fields: list[Record]) -> None:
    at(fields, "event_count")["type"] = "long"


def retype(fields: list[Record]) -> None:
    at(fields, "started_at")["type"] = "string"


def forbid_null(fields: list[Record]) -> None:
    at(fields, "user_id").update(type="string", default="")


def close_reason_as_enum(fields: list[Record]) -> None:
    at(fields, "close_reason")["type"] = {"type": "enum", "name": "CloseReason", "symbols": ["gap", "idle"]}


@pytest.mark.parametrize(
    "change",
    [remove_required, add_required, rename, widen, retype, forbid_null, close_reason_as_enum],
)
@pytest.mark.parametrize("name", ["session_embedding", "session_intent", "visitor_intent"])
def test_a_change_that_breaks_a_reader_is_found(name: codec.SchemaName, change: Change) -> None:
    assert compatibility.breaks(changed(name, change), codec.landed(name))


def test_a_change_within_a_list_of_records_is_found() -> None:
    def probability_as_text(fields: list[Record]) -> None:
        at(at(fields, "intents")["type"]["items"]["fields"], "probability")["type"] = "string"

    assert compatibility.breaks(
        changed("session_intent", probability_as_text), codec.landed("session_intent")
    )


def add_optional(fields: list[Record]) -> None:
    fields.insert(2, {"name": "added", "type": ["null", "long"], "default": None})


def remove_optional(fields: list[Record]) -> None:
    fields.remove(at(fields, "user_id"))


def reword(fields: list[Record]) -> None:
    at(fields, "user_id")["doc"] = "Other words."


@pytest.mark.parametrize("change", [add_optional, remove_optional, reword])
@pytest.mark.parametrize("name", ["click", "session_embedding", "session_intent", "visitor_intent"])
def test_a_change_that_breaks_nobody_may_land(name: codec.SchemaName, change: Change) -> None:
    assert compatibility.breaks(changed(name, change), codec.landed(name)) == []


def test_a_break_says_which_version_and_direction_and_place() -> None:
    current = changed("click", add_required)
    found, *_ = compatibility.breaks(current, codec.landed("click"))
    assert found.startswith("can't read what version 1 wrote: reader_field_missing_default_value: added at ")


def test_an_earlier_version_counts_as_much_as_the_last() -> None:
    first = changed("click", lambda fields: fields.append({"name": "kept", "type": "string"}))
    assert any("version 1 can't" in found for found in compatibility.breaks(codec.schema("click"), [first]))
    two = [first, *codec.landed("click")]
    assert any("version 1 can't" in found for found in compatibility.breaks(codec.schema("click"), two))


def test_landing_writes_the_next_version_once(tmp_path: Path) -> None:
    (tmp_path / "landed").mkdir()
    source = tmp_path / "click.avsc"
    shutil.copy(codec.FOLDER / "click.avsc", source)
    first = compatibility.land("click", tmp_path)
    assert first is not None
    assert first.name == "click.v1.avsc"
    assert first.read_bytes() == source.read_bytes()
    assert compatibility.land("click", tmp_path) is None
    source.write_text(source.read_text().replace("One thing", "Anything"))
    second = compatibility.land("click", tmp_path)
    assert second is not None
    assert second.name == "click.v2.avsc"


def test_the_command_says_that_all_is_well_and_fails_where_it_is_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert compatibility.main([]) == 0
    assert capsys.readouterr().out.count(": compatible\n") == len(codec.SCHEMA_NAMES)
    shutil.copytree(codec.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "click.avsc").write_text(json.dumps(changed("click", add_required)))
    assert compatibility.main(["--land"], tmp_path) == 1
    assert "click: can't read" in capsys.readouterr().err
    assert len([*(tmp_path / "landed").glob("click.v*.avsc")]) == len(codec.landed("click"))
