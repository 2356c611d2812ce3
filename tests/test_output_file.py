"""A file is written whole or not at all, and whoever can't write says which file and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.errors import UsageError
from streamer.output_file import OutputError, output_file, require_local, require_writable


def test_a_file_takes_its_place_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with output_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_on_the_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), output_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match=r"/f: can't be written \(No space left on device\)"),
        output_file(tmp_path / "f", beside) as file,
    ):
        file.write(b"much")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.mkdir()
    with (
        pytest.raises(OutputError, match=r"/f: can't be written \(Is a directory\)"),
        output_file(tmp_path / "f"),
    ):
        pass


@pytest.mark.parametrize("path", ["s3://bucket/s.parquet", Path("s3://bucket/s.parquet"), "hdfs:/s.parquet"])
def test_an_address_is_no_file_of_this_machine(path: str | Path) -> None:
    with pytest.raises(UsageError, match=r"--out .*expected a file of this machine"):
        require_local(path, "--out")


@pytest.mark.parametrize("path", ["s.parquet", "/tmp/s.parquet", "runs/12:30/s.parquet", "topic:clicks", "-"])
def test_a_path_is_one(path: str) -> None:
    require_local(path, "--out")


@pytest.mark.parametrize(
    ("path", "is_folder", "said"),
    [
        ("file", True, "--out file: file is a file; expected a folder"),
        ("file/x", True, "file is a file; expected a folder"),
        ("file/x.json", False, "file is a file; expected a folder"),
        ("folder", False, "--out folder: is a folder; expected a file"),
    ],
)
def test_what_is_in_the_way_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, is_folder: bool, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    with pytest.raises(UsageError, match=said):
        require_writable(Path(path), "--out", is_folder=is_folder)


@pytest.mark.parametrize(
    ("path", "is_folder"), [("new/x", True), ("folder", True), ("folder/f", False), ("file", False)]
)
def test_what_can_be_written_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, is_folder: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    require_writable(Path(path), "--out", is_folder=is_folder)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with output_file(path) as first, output_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
