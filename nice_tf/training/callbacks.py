"""What happens around the steps of `fit`: the guard against NaN, progress and its record, sample
pictures.
"""

import time
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from nice_tf import drawing
from nice_tf.config import Config
from nice_tf.data.labels import Labels
from nice_tf.errors import UserError
from nice_tf.runs.checkpoints import RunState, newest, save_best, save_last
from nice_tf.runs.workdir import Workdir
from nice_tf.training.samples import draw_samples, picture_of


def _learning_rate(model):
    return float(
        model.optimizer.learning_rate.numpy()
    )  # `float` knows no variable of several replicas


class FolderGuard(tf_keras.callbacks.Callback):
    """Stops a run whose folder was deleted or moved, before anything is written there again."""

    def __init__(self, run: Workdir):
        super().__init__()
        self._run = run

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Looks at the folder, before the logs of validation are opened there."""
        self._run.check_is_held()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """As `on_test_begin`."""
        self._run.check_is_held()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Looks at the folder, before the callbacks behind write to it."""
        self._run.check_is_held()


class NaNGuard(tf_keras.callbacks.Callback):
    """Stops a run whose log-likelihood is no longer finite, before anything of it is saved."""

    def __init__(self, run: Workdir, *, is_kept: bool):
        """Takes the folder of the run, and whether checkpoints of it are kept there."""
        super().__init__()
        self._run = run
        self._is_kept = is_kept
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keeps the number of the epoch, from 0."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Looks at the running mean, which stays non-finite once one step was."""
        self._check(logs["log_prob"], "log-likelihood")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Looks at validation: the last update of an epoch can spoil weights that no training step
        has used yet.
        """
        self._check(logs["val_log_prob"], "validation log-likelihood")

    def _check(self, value, what):
        if np.isfinite(value):
            return
        step = int(self.model.optimizer.iterations.numpy())
        said = [
            f"the {what} became {value} at step {step}, "
            f"learning rate {_learning_rate(self.model):.3g}",
            *self._checkpoint(),
        ]
        remedy = "Try a smaller learning_rate, more warmup_steps or a gradient_clip_norm"
        if self._is_kept:
            remedy += ", in another workdir"
        raise UserError(". ".join([*said, remedy]))

    def _checkpoint(self):
        """A sentence on where to go on from, or none where nothing is kept."""
        if not self._is_kept:
            return []
        path = newest(self._run.last)
        if path:
            return [f"The last good checkpoint is {path}"]
        if self._epoch == 0:
            return ["There is no checkpoint yet, it is the first epoch"]
        return []


class Progress(tf_keras.callbacks.Callback):
    """At the end of each epoch: how far the run is, its best epoch, whether it is to stop."""

    def __init__(self, state: RunState, config: Config):
        super().__init__()
        self._state = state
        self._config = config

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Writes the state (Keras counts from 0, all that we write from 1)."""
        self._state.epoch.assign(epoch + 1)
        if logs["val_log_prob"] > float(self._state.best_log_prob):
            self._state.best_log_prob.assign(logs["val_log_prob"])
            self._state.best_epoch.assign(epoch + 1)
        if self._state.is_finished(self._config):
            self.model.stop_training = True


class Recorder(tf_keras.callbacks.Callback):
    """At the end of an epoch, after `Progress`: best and last checkpoint, a row of metrics.csv."""

    def __init__(self, run: Workdir, state: RunState, rows: list[dict[str, Any]]):
        super().__init__()
        self._run = run
        self._state = state
        self._rows = list(rows)
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Records the epoch."""
        if int(self._state.best_epoch) == epoch + 1:
            self._run.drop_evaluation()  # of a run that was finished early, and is continued
            save_best(self._run, self.model, self._state)
        self._rows.append(_row(self.model, epoch, logs, self._started))
        self._run.write_metrics(self._rows)
        # Last of all: whatever is cut off before this line is done again.
        save_last(self._run, self.model, self._state, self._rows)


class RecorderAtEnd(tf_keras.callbacks.Callback):
    """Writes the best weights and metrics.csv at the end alone, of a run that nobody continues; in
    the place of `Recorder`.
    """

    def __init__(self, run: Workdir, state: RunState):
        super().__init__()
        self._run = run
        self._state = state
        self._rows: list[dict[str, Any]] = []
        self._best: list[np.ndarray] = []
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keeps the epoch."""
        if int(self._state.best_epoch) == epoch + 1:
            self._best = [variable.numpy() for variable in self.model.evaluation_flow.variables]
        self._rows.append(_row(self.model, epoch, logs, self._started))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Writes."""
        for variable, value in zip(self.model.evaluation_flow.variables, self._best, strict=True):
            variable.assign(value)
        save_best(self._run, self.model, self._state)
        self._run.write_metrics(self._rows)


class Standing(tf_keras.callbacks.Callback):
    """After all others, for the line that is printed of an epoch: the best validation
    log-likelihood so far, and how many epochs without a better one are left.
    """

    def __init__(self, state: RunState, config: Config):
        super().__init__()
        self._state = state
        self._patience = config.early_stopping_epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Adds to the logs, which the callbacks before have recorded without it."""
        logs["best"] = float(self._state.best_log_prob)
        if self._patience:
            since_best = epoch + 1 - int(self._state.best_epoch)
            logs["patience_left"] = self._patience - since_best


def _row(model, epoch, logs, started):
    """The row of metrics.csv of an epoch that began at a time of `time.perf_counter`."""
    return {
        "epoch": epoch + 1,
        "step": int(model.optimizer.iterations.numpy()),
        **_as_floats(logs),
        "learning_rate": _learning_rate(model),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _as_floats(logs):
    return {name: float(value) for name, value in logs.items()}


class SamplePictures(tf_keras.callbacks.Callback):
    """Every few epochs a grid of samples, as PNG and for TensorBoard; always of the same codes z.

    Of a conditional density a row shows a class.
    """

    def __init__(
        self, run: Workdir, levels: int | None, config: Config, labels: Labels | None = None
    ):
        super().__init__()
        self._run = run
        self._levels = levels
        self._config = config
        self._labels = labels

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Draws when the epoch is due and the data are pictures."""
        flow = self.model.evaluation_flow
        every = self._config.sample_every_epochs
        if not every or (epoch + 1) % every or not drawing.is_image(flow.event_shape):
            return
        classes = None
        if self._labels:
            classes = drawing.rows_of_classes(len(self._labels.classes))
        x = draw_samples(flow, self._config, self._labels, classes)
        grid = picture_of(x, self._levels)
        drawing.write_png(self._run.samples / f"epoch-{epoch + 1:04d}.png", grid)
        with tf.summary.create_file_writer(str(self._run.tensorboard / "samples")).as_default():
            tf.summary.image("samples", grid[np.newaxis], step=epoch)
