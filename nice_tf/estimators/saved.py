"""Estimators as folders: the run, and beside it what else the estimator knows."""

import json
import os
import pathlib
from typing import Any

import pyarrow as pa

from nice_tf.errors import UserError
from nice_tf.estimators.kept_run import KeptRun
from nice_tf.files import sync_tree, temporary_folder
from nice_tf.runs.workdir import Workdir

DAMAGE = (AttributeError, LookupError, TypeError, ValueError, pa.ArrowException)


def write_estimator(path: str | os.PathLike, run: KeptRun, description: dict[str, Any]) -> None:
    """Writes a folder that is there as a whole or not at all.

    Args:
      path: of the folder, which must not be there yet.
      run: of the estimator.
      description: of the estimator, ready for JSON.

    Raises:
      UserError: it is there, or cannot be written.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise UserError(f"path {path} is there already: give another one")
    try:
        with temporary_folder(path.absolute().parent, f".{path.name}.unfinished-") as folder:
            run.write(folder)
            text = json.dumps(description, indent=2)
            Workdir(folder).estimator.write_text(text + "\n")
            sync_tree(folder)
            os.rename(folder, path)
    except OSError as error:
        raise UserError(f"path {path} cannot be written ({error.strerror})") from error


def read_description(path: str | os.PathLike, name: str) -> dict[str, Any]:
    """The description of an estimator of this class.

    Raises:
      UserError: there is none, one of another class, or a damaged one.
    """
    try:
        values = json.loads(Workdir(path).estimator.read_text())
        found = values["class"]
    except OSError as error:
        raise UserError(
            f"path {path} holds no estimator that was saved ({error.strerror}); a run of "
            "nice-tf train is read by nice_tf.load_flow"
        ) from error
    except DAMAGE as error:
        raise damaged(path, error) from error
    if found != name:
        raise UserError(f"path {path} holds a {found}, not a {name}: load it as such")
    return values


def damaged(path: str | os.PathLike, error: Exception) -> UserError:
    """Names the file of a description that is not as it was written."""
    return UserError(f"{Workdir(path).estimator} is damaged or not of nice_tf ({error!r})")
