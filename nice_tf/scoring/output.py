"""Tables that are computed part by part and then joined to one file: an interrupted run continues
where it was.

The parts lie in a hidden folder beside the file. Nothing unfinished ever has the file's name.
"""

import contextlib
import csv
import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from nice_tf.data.tables.encodings import texts_of
from nice_tf.errors import UserError, cause_of
from nice_tf.files import Lock, remove_at_once, replaced, sync_folder, write_atomically

SUFFIXES = (".parquet", ".csv")
_SETTINGS = "settings.json"
_SECONDS = b"in_seconds"  # key of a part's metadata
_GROUP_ROWS = 2**16  # of a Parquet file's row group


def check_output(
    output: str | os.PathLike, suffixes: Iterable[str] = SUFFIXES, *, overwrite: bool = False
) -> None:
    """Checks that a file may be written.

    Raises:
      UserError: another suffix, or there is such a file.
    """
    if not str(output).endswith(tuple(suffixes)):
        raise UserError(f"output must end in {' or '.join(suffixes)}, got {output}")
    if os.path.exists(output) and not overwrite:
        raise UserError(
            f"output {output} is there already: overwrite replaces it, or give another name"
        )


def write(
    output: str | os.PathLike,
    tables: Callable[[int], Iterable[pa.Table]],
    *,
    settings: dict[str, Any],
    overwrite: bool = False,
    num_rows: Callable[[], int | None] | None = None,
    observe: Callable[[pa.Table], None] | None = None,
) -> tuple[int, float]:
    """Writes a Parquet or CSV file, with a progress bar on a terminal.

    Args:
      output: path, of a suffix of `SUFFIXES`; its folder is made if need be.
      tables: the rows from a number on, which a run that is continued has already, some at a time;
        each becomes a part.
      settings: all that the rows depend on, ready for JSON; a run is continued with the same only.
      overwrite: replace the file, and drop the parts of a run of other settings.
      num_rows: how many there are in all, asked for a progress bar; `None` if unknown.
      observe: gets all tables in order, those of an earlier run too, as they are joined.

    Returns:
      How many rows this run has computed, and the seconds it took for them.

    Raises:
      UserError: as `check_output`; parts of other settings; another process that writes the same
        file; a disk that is full or a folder that cannot be written; no rows.
    """
    check_output(output, overwrite=overwrite)
    path = pathlib.Path(output)
    # One lock for a file, whatever link it is written through.
    target = pathlib.Path(os.path.realpath(output))
    folder = target.with_name(f".{target.name}.parts")
    try:
        with _claimed(folder, settings, overwrite):
            # Another process may have written it before the claim.
            check_output(output, overwrite=overwrite)
            done = sum(pq.read_metadata(part).num_rows for part in _parts(folder))
            start = time.perf_counter()
            computed = _make_parts(folder, tables(done), done, num_rows)
            seconds = time.perf_counter() - start
            if not _parts(folder):
                raise UserError(f"{output}: the input has no rows")
            _join_parts(folder, path, observe)
            _drop(folder)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"output {output} cannot be written ({cause_of(error)})") from error
    return computed, seconds


@contextlib.contextmanager
def _claimed(folder, settings, overwrite):
    """Holds the folder of the parts for this process, without what this run cannot continue."""
    with _held(folder):
        settings = json.loads(json.dumps(settings))
        _check_settings(folder, settings, overwrite)
        _drop_behind_a_hole(folder)
        write_atomically(folder / _SETTINGS, json.dumps(settings).encode())
        try:
            yield
        finally:
            if folder.exists() and not _parts(folder):  # nothing to continue
                remove_at_once(folder)


@contextlib.contextmanager
def _held(folder):
    lock = Lock(folder / "lock")
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        # The process that held it may have removed the folder just now.
        with contextlib.suppress(FileNotFoundError):
            lock.acquire(f"{folder}, of the same output,")
            break
    try:
        yield
    finally:
        lock.release()


def _check_settings(folder, settings, overwrite):
    """Drops the parts of another run, if that is allowed, and what is left of one that was
    finished.
    """
    theirs = _read_settings(folder)
    if theirs == settings or not _parts(folder):
        return
    if theirs and not overwrite:
        names = {**theirs, **settings}
        differing = [name for name in names if theirs.get(name) != settings.get(name)]
        raise UserError(
            f"{folder} holds the parts of an unfinished run of other {', '.join(differing)}: the "
            "same command continues it if its input and model are as they were; else only "
            "overwrite helps, which drops it"
        )
    for part in _parts(folder):
        part.unlink()


def _read_settings(folder):
    """Of the run that the parts are of. There are none once it has its output: its parts count no
    more.
    """
    try:
        return json.loads((folder / _SETTINGS).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{folder / _SETTINGS} is damaged: delete {folder} to start again"
        ) from error


def _drop_behind_a_hole(folder):
    """Keeps the parts 0, 1, ... up to the first that is missing or damaged: the rows behind it are
    computed again.
    """
    is_whole = True
    for number, part in enumerate(_parts(folder)):
        is_whole = is_whole and part.name == _name(number) and _is_whole(part)
        if not is_whole:
            part.unlink()


def _is_whole(part):
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError):
        return False
    return True


def _drop(folder):
    """Removes the parts of a run that has its output. First the settings: a kill here leaves parts
    that none takes.
    """
    (folder / _SETTINGS).unlink()
    sync_folder(folder)
    remove_at_once(folder)


def _name(number):
    return f"{number:09d}.parquet"


def _parts(folder):
    return sorted(folder.glob("[0-9]*.parquet"))


def _make_parts(folder, tables, done, num_rows):
    number = len(_parts(folder))
    computed = 0
    total = None
    if num_rows and sys.stderr.isatty():
        total = num_rows()
    with tqdm(total=total, initial=done, unit=" rows", unit_scale=True, disable=None) as progress:
        for table in tables:
            with replaced(folder / _name(number)) as file:
                pq.write_table(_naming_seconds(table), file, write_page_checksum=True)
            number += 1
            computed += len(table)
            progress.update(len(table))
    return computed


def _join_parts(folder, path, observe):
    """Writes the rows of all parts into the file."""
    with replaced(path) as file:
        if path.suffix == ".csv":
            _write_csv(file, _observed(folder, observe))
        else:
            _write_parquet(file, _observed(folder, observe))


def _observed(folder, observe):
    """The tables of the parts in order."""
    for part in _parts(folder):
        table = pq.read_table(part, use_threads=False, memory_map=False)
        if observe:
            observe(table)
        yield _in_seconds(table).replace_schema_metadata(None)


def _naming_seconds(table):
    """The table with the names of its columns in seconds, which Parquet has in milliseconds."""
    names = []
    for field in table.schema:
        has_unit = pa.types.is_timestamp(field.type) or pa.types.is_time32(field.type)
        if has_unit and field.type.unit == "s":
            names.append(field.name)
    known = table.schema.metadata or {}
    return table.replace_schema_metadata({**known, _SECONDS: json.dumps(names)})


def _in_seconds(table):
    """The inverse of `_naming_seconds`: CSV shows the unit."""
    for name in json.loads((table.schema.metadata or {}).get(_SECONDS, "[]")):
        place = table.column_names.index(name)
        kind = pa.time32("s")
        if pa.types.is_timestamp(table[name].type):
            kind = pa.timestamp("s", table[name].type.tz)
        table = table.set_column(place, name, table[name].cast(kind))
    return table


def _write_parquet(file, tables):
    tables = iter(tables)
    first = next(tables)  # `write` has looked that there is one
    with pq.ParquetWriter(file, first.schema) as writer:
        gathered = [first]
        for table in tables:
            if sum(map(len, gathered)) >= _GROUP_ROWS:
                writer.write_table(pa.concat_tables(gathered))
                gathered = []
            gathered.append(table)
        writer.write_table(pa.concat_tables(gathered))


def _write_csv(file, tables):
    text = io.TextIOWrapper(file, newline="", encoding="utf-8")
    writer = csv.writer(text, lineterminator="\n")
    for number, table in enumerate(tables):
        if not number:
            writer.writerow(table.column_names)
        texts = [texts_of(column).to_pylist() for column in table.columns]
        writer.writerows(zip(*texts, strict=True))
    text.flush()
    text.detach()  # closing it would close the file
