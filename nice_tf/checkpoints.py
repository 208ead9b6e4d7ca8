"""What is saved of a run in training, and how it is read back."""

import pathlib
import re
import shutil
from typing import Protocol

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.config import Config
from nice_tf.errors import UserError
from nice_tf.workdir import Workdir

tfd = tfp.distributions


class RunState(tf.Module):
    """How far a run is: epochs done, and the best validation log-likelihood with its epoch."""

    def __init__(self):
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_log_prob = tf.Variable(float("-inf"), dtype=tf.float64, trainable=False)

    def is_finished(self, config: Config) -> bool:
        """Whether all epochs are done, or enough of them without a better validation log-likelihood."""
        patience = config.early_stopping_epochs
        return int(self.epoch) >= config.epochs or 0 < patience <= int(self.epoch) - int(self.best_epoch)


class Trained(Protocol):
    """What is saved of a model."""

    flow: tfd.TransformedDistribution
    evaluation_flow: tfd.TransformedDistribution
    optimizer: tf.Module


def save_last(run: Workdir, model: Trained, state: RunState) -> None:
    """Saves everything needed to continue, keeping the one before."""
    _save(_last(model, state), run.last, int(state.epoch), keep=2)


def save_best(run: Workdir, model: Trained, state: RunState) -> None:
    """Saves the weights that are reported, of the epoch that is the best."""
    saved = tf.train.Checkpoint(flow=model.evaluation_flow, epoch=state.best_epoch)
    _save(saved, run.best, int(state.best_epoch), keep=1)


def restore_last(run: Workdir, model: Trained, state: RunState) -> None:
    """Reads the last checkpoint into model, optimizer and state; without one, nothing is done.

    Raises:
      UserError: a damaged checkpoint.
    """
    path = newest(run.last)
    if path is not None:
        remedy = f"Delete {path}.* to go on from the checkpoint before it, if there is one"
        _restore(_last(model, state), path, remedy)


def restore_best(run: Workdir, flow: tfd.TransformedDistribution) -> tuple[tfd.TransformedDistribution, int]:
    """Reads the best checkpoint into a flow.

    Returns:
      The flow, and the epoch that the weights are of.

    Raises:
      UserError: no checkpoint, or a damaged one.
    """
    path = newest(run.best)
    if path is None:
        raise UserError(f"workdir {run.path} has no checkpoint in {run.best}: train first")
    epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
    _restore(tf.train.Checkpoint(flow=flow, epoch=epoch), path, "Train again, in another workdir")
    return flow, int(epoch)


def newest(directory: pathlib.Path) -> str | None:
    """Prefix of the complete checkpoint with the highest epoch; TensorFlow writes its `.index` file last."""
    found = [path.with_suffix("") for path in directory.glob("epoch-*.index")]
    return str(max(found, key=_epoch)) if found else None


def _epoch(path):
    return int(re.fullmatch(r"epoch-(\d+)", path.name)[1])


def _last(model, state):
    return tf.train.Checkpoint(
        flow=model.flow, evaluation_flow=model.evaluation_flow, optimizer=model.optimizer, state=state
    )


def _save(checkpoint, directory, epoch, *, keep):
    path = directory / f"epoch-{epoch}"
    try:
        checkpoint.write(str(path))
    except tf.errors.OpError as error:
        for part in directory.glob(f"{path.name}*"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        cause = str(error).splitlines()[0]
        raise UserError(f"checkpoint {path} cannot be written ({cause}); what was saved before stays") from error
    for old in sorted(directory.glob("epoch-*.index"), key=lambda path: _epoch(path.with_suffix("")))[:-keep]:
        old.unlink()  # first the index: what has none is no checkpoint
        for shard in directory.glob(f"{old.stem}.data-*"):
            shard.unlink()


def _restore(checkpoint, path, remedy):
    try:
        checkpoint.read(path).assert_existing_objects_matched()
    except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"checkpoint {path} is damaged or of another model ({cause}). {remedy}") from error
