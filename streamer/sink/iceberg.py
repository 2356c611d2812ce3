"""The copy in tables of Iceberg: the rows of the Parquet lake, in `sessions` and `users` of a catalogue.

Each table is committed with how far its own topic was copied. Erasures wait in the summaries of snapshots,
and are carried out in `users` first: what a visitor had there is known by the visitor's rows in `sessions`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError, ValidationException
from sqlalchemy.exc import SQLAlchemyError

from streamer.errors import UsageError
from streamer.settings import IcebergSinkSettings
from streamer.sink import lake_erasure
from streamer.sink.iceberg_table import IcebergTable, TableState
from streamer.sink.lake import SMALL_FILES, locked
from streamer.sink.lake_manifest import Erasure, LakePosition
from streamer.sink.lake_verify import Found
from streamer.sink.rows import RowStore
from streamer.sink.store import StoreAwayError, StoreError

_TABLES = ("users", "sessions")
_SAY_AGAIN_MS = 3_600_000
"""A table that nothing came to is committed so often, for its snapshot to say that it isn't behind."""
_CATALOG = "catalog.db"
_NOT_IN_ADDRESSES = {*"#?%"}
"""The catalogue and the tables have the folder in addresses, which these would end or change."""
_NOWHERE = LakePosition(-1, 0, None, 0, {})
_FILES = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
"""It lists files, too."""

log = structlog.get_logger(__name__)


class IcebergLake(RowStore):
    """Any number of readers, by the catalogue."""

    layout = "iceberg"

    def __init__(
        self, settings: IcebergSinkSettings, topics: Mapping[str, str], now: Callable[[], float]
    ) -> None:
        """`topics`: of each table; `now`: seconds since 1970."""
        super().__init__(_name_of(settings), settings.commit_every_s, settings.erase_every_s, now)
        self._settings = settings
        self._topics = topics
        self._erased_ms = 0
        with _reaching(self.name), ExitStack() as opened:
            if settings.folder is not None:
                opened.enter_context(locked(settings.folder))
            self._tables = opened.enter_context(_opened(settings, create=True))
            self._open = opened.pop_all()
        for table in self._tables.values():
            self._take_positions(table.state.positions)

    async def __aexit__(self, *_: object) -> None:
        self._open.close()

    def _commit(self, erase: bool) -> None:
        with _reaching(self.name):
            for table in self._tables.values():
                self._append(table)
            if erase or self._is_time_to_erase(self._erased_ms):
                self._erase()
                self._tidy()
                self._erased_ms = int(self._now() * 1000)

    def _append(self, table: IcebergTable) -> None:
        before = table.state
        came = [each for each in self._erasures if each.table == table.name]
        parts = {part: rows for part, rows in self._rows.items() if part.table == table.name}
        after = self._state_of(table, [*before.erasures, *came])
        if not parts and not came and not _has_moved(before, after):
            return
        table.append(parts, after)
        self._erasures = [each for each in self._erasures if each.table != table.name]
        for part, rows in parts.items():
            self._waiting -= len(rows)
            del self._rows[part]

    def _erase(self) -> None:
        erasures = [each for table in self._tables.values() for each in table.state.erasures]
        if not erasures:
            return
        tables = {
            file.file_path: (table.name, table.keys(file))
            for table in self._tables.values()
            for file in table.files()
        }
        masks, erasures = lake_erasure.erased_rows(tables, erasures)
        places: dict[str, defaultdict[int, set[int]]] = {name: defaultdict(set) for name in self._tables}
        for path, mask in masks.items():
            name, keys = tables[path]
            gone = keys.filter(mask)
            for partition, offset in zip(
                gone["topic_partition"].to_pylist(), gone["topic_offset"].to_pylist(), strict=True
            ):
                places[name][partition].add(offset)
        left = self._still_to_erase(erasures)
        for name, table in self._tables.items():
            of_table = [each for each in left if each.table == name]
            table.erase(places[name], self._state_of(table, of_table))
        if masks:
            log.info("erased", files=len(masks))

    def _tidy(self) -> None:
        now = self._now()
        for table in self._tables.values():
            table.join(SMALL_FILES, self._settings.target_bytes)
            table.tidy(now - self._settings.keep_snapshots_s, now - self._settings.erase_every_s)

    def _state_of(self, table: IcebergTable, erasures: Sequence[Erasure]) -> TableState:
        topics = {*table.state.positions, self._topics.get(table.name)}
        positions = {topic: each for topic, each in self._positions_by_topic().items() if topic in topics}
        return TableState(positions, tuple(erasures))


def looked_through(settings: IcebergSinkSettings, erasures: Sequence[Erasure]) -> Found:
    """What is in the tables, and in files of theirs that no snapshot needs any more. Raises StoreError for a
    file that is missing, damaged, or not the one that was written."""
    tables: dict[str, tuple[str, pa.Table]] = {}
    waiting, count = [*erasures], 0
    with _reaching(_name_of(settings)), _opened(settings, create=False) as opened:
        for table in opened.values():
            files = table.files()
            count += len(files)
            waiting += table.state.erasures
            tables |= {file.file_path: (table.name, table.keys(file)) for file in files}
        rows = sum(keys.num_rows for _, keys in tables.values())
        for table in opened.values():
            others = table.keys_of_others(table.files())
            tables |= {place: (table.name, keys) for place, keys in others}
    masks, _ = lake_erasure.erased_rows(tables, waiting)
    left = sum(pc.sum(mask).as_py() for mask in masks.values())
    return Found(count, rows, len({(each.table, each.key) for each in erasures}), left)


def _name_of(settings: IcebergSinkSettings) -> str:
    return f"{settings.folder or settings.catalog}: {settings.namespace}"


@contextmanager
def _opened(settings: IcebergSinkSettings, create: bool) -> Iterator[dict[str, IcebergTable]]:
    with closing(_catalog(settings, create)) as catalog:
        tables = {name: IcebergTable(catalog, settings.namespace, name, create) for name in _TABLES}
        if settings.folder is not None:
            own = _address_of(settings.folder)
            for table in tables.values():
                if not table.location.startswith(f"{own}/"):
                    raise StoreError(
                        f"{settings.folder}: its catalogue has tables at {table.location}; expected {own}: a "
                        "folder can't be moved or copied"
                    )
        yield tables


def _catalog(settings: IcebergSinkSettings, create: bool) -> Catalog:
    if settings.folder is None:
        try:
            return load_catalog(settings.catalog, **_FILES)
        except ValueError:
            raise UsageError(
                f"sink.iceberg.catalog {settings.catalog}: not in pyiceberg's configuration; expected its "
                f"uri in ~/.pyiceberg.yaml, or in PYICEBERG_CATALOG__{str(settings.catalog).upper()}__URI"
            ) from None
    folder = settings.folder.resolve()
    if not _NOT_IN_ADDRESSES.isdisjoint(str(folder)):
        raise UsageError(f"sink.iceberg.folder {folder}: expected a path without any of # ? %")
    if not (folder / _CATALOG).exists():
        if not create:
            raise StoreError(
                f"{folder}: no catalogue there; expected a folder that `streamer sink iceberg` has written"
            )
        if any((folder / settings.namespace / name).exists() for name in _TABLES):
            raise StoreError(
                f"{folder}: files of tables, but no {_CATALOG}; restore it, or give an empty folder"
            )
    return load_catalog(
        "streamer",
        type="sql",
        uri=f"sqlite:///{folder}/{_CATALOG}",
        warehouse=_address_of(folder),
        **_FILES,
    )


def _address_of(folder: Path) -> str:
    return f"file://{folder.resolve()}"


def _has_moved(before: TableState, after: TableState) -> bool:
    if before.positions.keys() != after.positions.keys():
        return True
    return any(
        (was.offset, was.until) != (now.offset, now.until) or now.at_end_ms - was.at_end_ms >= _SAY_AGAIN_MS
        for topic, partitions in after.positions.items()
        for number, now in partitions.items()
        for was in (before.positions[topic].get(number, _NOWHERE),)
    )


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    """Errors of a catalogue and its files as those of a store."""
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(
            f"{name}: the catalogue has a file that is gone ({str(error).splitlines()[0]}); restore it"
        ) from None
    except NoSuchTableError:
        raise StoreError(f"{name}: a table of it is gone from the catalogue") from None
    except (CommitFailedException, ValidationException):
        raise StoreAwayError(f"{name}: changed by another writer at the same moment") from None
    except (RESTError, SQLAlchemyError) as error:
        raise StoreAwayError(f"{name}: the catalogue doesn't answer ({type(error).__name__})") from None
