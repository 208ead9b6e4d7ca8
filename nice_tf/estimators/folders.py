"""X as a file in a folder of its own, for the time of a call."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from nice_tf.data.tables.degenerate import OTHERS
from nice_tf.errors import UserError

WEIGHTS = "sample_weight.npy"
RUN = "run"
# What a message says of commands, and what it means to an estimator.
_WORDS = {
    "the same command with --impute fills": "impute=True fills",
    "--impute fills": "impute=True fills",
    f"out with {OTHERS}": "out of X",
}


@contextlib.contextmanager
def folder_for(table: pa.Table) -> Iterator[pathlib.Path]:
    """A table as the only file of a new folder, for the block; what is wrong is said of X.

    Yields:
      The path of the file.

    Raises:
      UserError: Parquet cannot hold the table; and what the block raises.
    """
    with tempfile.TemporaryDirectory(prefix="nice_tf-") as folder:
        path = pathlib.Path(folder) / "X.parquet"
        try:
            pq.write_table(table, path)
        except pa.ArrowException as error:
            raise UserError(f"X cannot be written as Parquet ({error})") from error
        try:
            yield path
        except UserError as error:
            raise UserError(about_x(str(error), path)) from error


def about_x(message: str, path: pathlib.Path) -> str:
    """A message in which the temporary file is X, and what lies beside it has the user's names."""
    message = message.replace(f"weights {path.parent / WEIGHTS}", "sample_weight")
    for kind in ("dataset ", "input ", ""):
        message = message.replace(f"{kind}{path}", "X")
    return _by_parameters(message.replace(str(path.parent / RUN), "the fit"))


@contextlib.contextmanager
def naming_parameters() -> Iterator[None]:
    """What the block refuses says what to do with parameters of an estimator, instead of flags."""
    try:
        yield
    except UserError as error:
        raise UserError(_by_parameters(str(error))) from error


def _by_parameters(message):
    for words, own in _WORDS.items():
        message = message.replace(words, own)
    return message
