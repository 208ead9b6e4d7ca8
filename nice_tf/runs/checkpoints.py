"""What is saved of a run in training, and how it is read back."""

import contextlib
import json
import logging
import os
import pathlib
import re
from typing import Any, Protocol

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.marginals import QuantileTransform
from nice_tf.config import Config
from nice_tf.errors import UserError, cause_of
from nice_tf.files import remove, sync_folder, sync_tree
from nice_tf.flows.density import layers
from nice_tf.runs.workdir import Workdir

tfd = tfp.distributions
_LOG = logging.getLogger(__name__)
_UNFINISHED = "unfinished"
_NAME = re.compile("epoch-[0-9]+")
# The end of every table of LevelDB, as TensorFlow writes them.
_INDEX_END = bytes.fromhex("57fb808b247547db")


class RunState(tf.Module):
    """How far a run is: epochs done, and the best validation log-likelihood with its epoch."""

    def __init__(self):
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_log_prob = tf.Variable(float("-inf"), dtype=tf.float64, trainable=False)

    def is_finished(self, config: Config) -> bool:
        """Whether all epochs are done, or enough of them without a better log-likelihood."""
        if int(self.epoch) >= config.epochs:
            return True
        epochs_since_best = int(self.epoch) - int(self.best_epoch)
        return 0 < config.early_stopping_epochs <= epochs_since_best


class _History(tf.train.experimental.PythonState):
    """The rows of metrics.csv in a checkpoint.

    Not a variable, which several workers would have to make together.
    """

    def __init__(self, rows: list[dict[str, Any]]):
        self._rows = rows

    def serialize(self) -> str:
        return json.dumps(self._rows)

    def deserialize(self, string_value: str) -> None:
        self._rows = json.loads(string_value)


class Trained(Protocol):
    """What is saved of a model."""

    flow: tfd.TransformedDistribution
    evaluation_flow: tfd.TransformedDistribution
    optimizer: tf.Module


def save_last(run: Workdir, model: Trained, state: RunState, rows: list[dict[str, Any]]) -> None:
    """Saves everything needed to continue, with the rows of metrics.csv, keeping the one before."""
    saved = tf.train.Checkpoint(**_parts(model, state), history=_History(rows))
    _save(saved, run.last, int(state.epoch))
    tidy(run, int(state.epoch))


def save_best(run: Workdir, model: Trained, state: RunState) -> None:
    """Saves the weights of the best epoch, which are reported; `save_last` drops those before."""
    saved = tf.train.Checkpoint(flow=model.evaluation_flow, epoch=state.best_epoch)
    _save(saved, run.best, int(state.best_epoch))


def tidy(run: Workdir, epoch: int) -> None:
    """Removes all checkpoints except the last two up to an epoch, and their best weights.

    Whichever of the two is continued finds its own. Later ones are of a run that was cut off, or
    damaged.
    """
    kept = [path for path in complete(run.last) if _epoch(path) <= epoch][:2]
    _drop_all_but(run.last, {_epoch(path) for path in kept})
    _drop_all_but(run.best, {_best_epoch(path) for path in kept})


def is_begun(run: Workdir) -> bool:
    """Whether there is any checkpoint, whole or not."""
    return bool(_found(run.last))


def is_continued(run: Workdir) -> bool:
    """Whether there is a checkpoint to continue from.

    Raises:
      UserError: there are parts of checkpoints, but none that is whole, and more than a kill in the
        first epoch leaves.
    """
    if complete(run.last):
        return True
    parts = _found(run.last)
    if any(_epoch(path) > 1 for path in parts):
        raise _none_is_whole(run, f"checkpoint {parts[0]} is cut off")
    return False


def restore_last(run: Workdir, model: Trained, state: RunState) -> list[dict[str, Any]] | None:
    """Reads the last checkpoint that is whole, if there is one, into model, optimizer and state.

    One that is damaged is passed over with a warning: the epochs behind the one before it are then
    done again.

    Returns:
      The rows of metrics.csv up to it; `None` if it holds none, as those of earlier versions.

    Raises:
      UserError: there are checkpoints, but none that can be read.
    """
    whole = complete(run.last)
    wrong = []
    for path in _found(run.last):
        if path not in whole:
            wrong.append(f"checkpoint {path} is cut off")
            continue
        try:
            _restore(tf.train.Checkpoint(**_parts(model, state)), path)
            _check_marginals(model.flow, path)
            _check_marginals(model.evaluation_flow, path)
            rows = _read(path, "history/.ATTRIBUTES/py_state")
        except UserError as error:
            wrong.append(str(error))
            continue
        _warn(wrong, f"going on from epoch {int(state.epoch)}, the one before")
        if rows is None:
            return None
        return json.loads(rows)
    if whole:
        raise _none_is_whole(run, wrong[0])
    _warn(wrong, "starting from the beginning")
    return []


def _warn(wrong, what_follows):
    for damage in wrong:
        _LOG.warning("%s: %s", damage, what_follows)


def _none_is_whole(run, damage):
    return UserError(
        f"{damage}, and there is no other in {run.last} that is whole: delete this folder to start "
        "again from the beginning, or give another workdir"
    )


def restore_best(
    run: Workdir, flow: tfd.TransformedDistribution, epoch: int | None = None
) -> tuple[tfd.TransformedDistribution, int]:
    """Reads the best checkpoint into a flow.

    Args:
      run: its folder.
      flow: of the run's settings.
      epoch: which weights are wanted, as an evaluation is of them; if not given, those that go with
        the last checkpoint.

    Returns:
      The flow, and the epoch that the weights are of.

    Raises:
      UserError: no checkpoint, or a damaged one.
    """
    wanted = epoch or _best_of(run)
    if wanted is None:
        raise UserError(f"workdir {run.path} has no checkpoint in {run.best}: train first")
    path = str(run.best / f"epoch-{wanted}")
    found = tf.Variable(0, dtype=tf.int64, trainable=False)
    try:
        if path not in complete(run.best):
            raise UserError(f"checkpoint {path} is damaged or missing")
        _restore(tf.train.Checkpoint(flow=flow, epoch=found), path)
        _check_marginals(flow, path)
    except UserError as error:
        # A training may have replaced it meanwhile.
        if epoch is None and _best_of(run) != wanted:
            return restore_best(run, flow)
        raise UserError(f"{error}. Train again, in another workdir") from error
    return flow, int(found)


def _best_of(run):
    """The epoch of the best weights of the last checkpoint; without one, of the last there are."""
    last = newest(run.last)
    if last is not None:
        wanted = _best_epoch(last)
        if wanted is not None:
            return int(wanted)
    best = newest(run.best)
    if best is None:
        return None
    return _epoch(best)


def newest(directory: pathlib.Path) -> str | None:
    """Prefix of the complete checkpoint with the highest epoch."""
    prefixes = complete(directory)
    if not prefixes:
        return None
    return prefixes[0]


def complete(directory: pathlib.Path) -> list[str]:
    """Prefixes of the checkpoints that were written to their end, the highest epoch first.

    `_save` gives the `.index` file its name last. Earlier versions did not: a kill could leave a
    part of it.
    """
    return [path for path in _found(directory) if _ends_as_index(pathlib.Path(f"{path}.index"))]


def _found(directory):
    """Prefixes of all checkpoints, whole or not, the highest epoch first."""
    prefixes = []
    for index in directory.glob("epoch-*.index"):
        prefix = index.with_suffix("")
        if _NAME.fullmatch(prefix.name):
            prefixes.append(str(prefix))
    return sorted(prefixes, key=_epoch, reverse=True)


def _ends_as_index(path):
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_INDEX_END)))
        return file.read() == _INDEX_END


def _epoch(path):
    return int(pathlib.Path(path).name.removeprefix("epoch-"))


def _parts(model, state):
    return {
        "flow": model.flow,
        "evaluation_flow": model.evaluation_flow,
        "optimizer": model.optimizer,
        "state": state,
    }


def _read(path, key):
    """A value of a checkpoint by its name there, as Python has it; `None` if there is none."""
    with _naming_damage(path):
        reader = tf.train.load_checkpoint(path)
        if not reader.has_tensor(key):
            return None
        return reader.get_tensor(key)


def _best_epoch(path):
    """Which best weights a checkpoint goes with; `None` where it is damaged and goes with none."""
    try:
        return _read(path, "state/best_epoch/.ATTRIBUTES/VARIABLE_VALUE")
    except UserError:
        return None


def _save(checkpoint, directory, epoch):
    """Writes below `unfinished`, brings that to the disk, and moves it up.

    The index is moved last: with it the checkpoint is there.
    """
    unfinished = directory / _UNFINISHED
    name = f"epoch-{epoch}"
    try:
        remove(unfinished)
        unfinished.mkdir(parents=True)
        checkpoint.write(str(unfinished / name))
        sync_tree(unfinished)
        (directory / f"{name}.index").unlink(missing_ok=True)  # of other weights
        for shard in unfinished.glob(f"{name}.data-*"):
            os.replace(shard, directory / shard.name)
        sync_folder(directory)
        os.replace(unfinished / f"{name}.index", directory / f"{name}.index")
        sync_folder(directory)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"checkpoint {directory / name} cannot be written ({cause_of(error)}); what was saved "
            "before stays"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            remove(unfinished)


def _drop_all_but(directory, epochs):
    """Removes the checkpoints of other epochs, whole or in parts."""
    kept = {f"epoch-{epoch}" for epoch in epochs}
    others = [path for path in directory.glob("epoch-*") if path.name.split(".")[0] not in kept]
    # First the index: what has none is no checkpoint.
    for path in others:
        if path.suffix == ".index":
            remove(path)
    for path in others:
        remove(path)
    remove(directory / _UNFINISHED)


def _restore(checkpoint, path):
    with _naming_damage(path):
        status = checkpoint.read(path)
        status.assert_existing_objects_matched()
        status.expect_partial()  # the history is none of the model's


def _check_marginals(flow, path):
    """Refuses fitted tables that are no distribution functions: their densities would be wrong
    without a word.
    """
    for layer in layers(flow):
        if not isinstance(layer, QuantileTransform):
            continue
        try:
            layer.check_fitted()
        except UserError as error:
            raise UserError(f"checkpoint {path} is damaged ({error})") from error


@contextlib.contextmanager
def _naming_damage(path):
    try:
        yield
    except (tf.errors.OpError, AssertionError, IndexError, ValueError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {path} is damaged or of another model ({cause_of(error)})"
        ) from error
