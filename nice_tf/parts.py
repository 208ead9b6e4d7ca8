"""Tables that are computed part by part and then joined to one file: an interrupted run continues where it was.

The parts lie in a hidden folder beside the file. Nothing unfinished ever has the file's name.
"""

import contextlib
import csv
import fcntl
import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from nice_tf.errors import UserError
from nice_tf.workdir import write_atomically

SUFFIXES = (".parquet", ".csv")
_GROUP_ROWS = 2**16  # of a Parquet file's row group


def check_output(output: str | os.PathLike, suffixes: Iterable[str] = SUFFIXES, *, overwrite: bool = False) -> None:
    """Looks whether a file may be written.

    Raises:
      UserError: another suffix, or there is such a file.
    """
    if not str(output).endswith(tuple(suffixes)):
        raise UserError(f"output must end in {' or '.join(suffixes)}, got {output}")
    if os.path.exists(output) and not overwrite:
        raise UserError(f"output {output} is there already: overwrite replaces it, or give another name")


def write(
    output: str | os.PathLike,
    tables: Callable[[int], Iterable[pa.Table]],
    *,
    settings: dict[str, Any],
    overwrite: bool = False,
    num_rows: Callable[[], int | None] = lambda: None,
    observe: Callable[[pa.Table], None] = lambda table: None,
) -> tuple[int, float]:
    """Writes a Parquet or CSV file, with a progress bar on a terminal.

    Args:
      output: path, of a suffix of `SUFFIXES`; its folder is made if need be.
      tables: the rows from a number on, which a run that is continued has already, some at a time; each becomes a part.
      settings: all that the rows depend on, ready for JSON; a run is continued with the same only.
      overwrite: replace the file, and drop the parts of a run of other settings.
      num_rows: how many there are in all, asked for a progress bar; `None` if unknown.
      observe: gets all tables in order, those of an earlier run too, as they are joined.

    Returns:
      How many rows this run has computed, and the seconds it took for them.

    Raises:
      UserError: as `check_output`; parts of other settings; another process that writes the same file; a disk that is
        full or a folder that cannot be written; no rows.
    """
    check_output(output, overwrite=overwrite)
    path = pathlib.Path(output)
    folder = path.with_name(f".{path.name}.parts")
    try:
        with _claimed(folder, settings, overwrite):
            done = sum(pq.read_metadata(part).num_rows for part in _parts(folder))
            start = time.perf_counter()
            computed = _make_parts(folder, tables(done), done, num_rows)
            seconds = time.perf_counter() - start
            if not _parts(folder):
                raise UserError(f"{output}: the input has no rows")
            joined = folder / f"joined{path.suffix}"
            write_rows = _write_csv if path.suffix == ".csv" else _write_parquet
            write_rows(joined, _observed(folder, observe))
            os.replace(joined, path)
            shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"output {output} cannot be written ({error.strerror or error})") from error
    return computed, seconds


@contextlib.contextmanager
def _claimed(folder, settings, overwrite):
    """Holds the folder of the parts for this process, emptied of those of other settings if that is allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder} is in use: another process is writing the same output") from error
        kept = folder / "settings.json"
        theirs = json.loads(kept.read_text()) if kept.exists() else {}
        settings = json.loads(json.dumps(settings))
        if _parts(folder) and theirs != settings:
            differing = [name for name in {**theirs, **settings} if theirs.get(name) != settings.get(name)]
            if not overwrite:
                raise UserError(
                    f"{folder} holds the parts of an unfinished run of other {', '.join(differing)}: the same command "
                    "continues it if its input and model are as they were; else only overwrite helps, which drops it"
                )
            for part in _parts(folder):
                part.unlink()
        write_atomically(kept, json.dumps(settings).encode())
        try:
            yield
        finally:
            if not _parts(folder):  # nothing to continue, or all is done
                shutil.rmtree(folder, ignore_errors=True)


def _parts(folder):
    return sorted(folder.glob("[0-9]*.parquet"))


def _make_parts(folder, tables, done, num_rows):
    number, computed = len(_parts(folder)), 0
    total = num_rows() if sys.stderr.isatty() else None
    with tqdm(total=total, initial=done, unit=" rows", unit_scale=True, disable=None) as progress:
        for table in tables:
            unfinished = folder / "unfinished"
            pq.write_table(table, unfinished)
            os.replace(unfinished, folder / f"{number:09d}.parquet")
            number, computed = number + 1, computed + len(table)
            progress.update(len(table))
    return computed


def _observed(folder, observe):
    for part in _parts(folder):
        table = pq.read_table(part, use_threads=False, memory_map=False)
        observe(table)
        yield table.replace_schema_metadata(None)


def _write_parquet(path, tables):
    gathered, writer = [], None
    with contextlib.ExitStack() as stack:
        for table in tables:
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            gathered.append(table)
            if sum(map(len, gathered)) >= _GROUP_ROWS:
                writer.write_table(pa.concat_tables(gathered))
                gathered = []
        if gathered:
            writer.write_table(pa.concat_tables(gathered))


def _write_csv(path, tables):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, table in enumerate(tables):
            if not number:
                writer.writerow(table.column_names)
            writer.writerows(zip(*(pc.cast(column, pa.string()).to_pylist() for column in table.columns), strict=True))
