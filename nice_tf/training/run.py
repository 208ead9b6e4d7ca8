"""A run, from settings to results: train or continue, evaluate, sample."""

import contextlib
import dataclasses
import glob
import logging
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from nice_tf.config import Config
from nice_tf.data import batches, dataset
from nice_tf.data.paths import is_pattern
from nice_tf.data.schema import Schema
from nice_tf.data.units import is_discrete
from nice_tf.errors import UserError, cause_of
from nice_tf.evaluation import calibration, likelihood
from nice_tf.runs.architecture import MIN_INVERSE_SCALE_WITHOUT_NOISE, make_flow
from nice_tf.runs.checkpoints import (
    RunState,
    is_begun,
    is_continued,
    restore_best,
    restore_last,
    tidy,
)
from nice_tf.runs.workdir import Workdir
from nice_tf.training import devices
from nice_tf.training.callbacks import (
    FolderGuard,
    NaNGuard,
    Progress,
    Recorder,
    RecorderAtEnd,
    SamplePictures,
    Standing,
)
from nice_tf.training.epoch_lines import EpochLines
from nice_tf.training.model import FlowModel, make_model
from nice_tf.training.samples import write_samples

_LOG = logging.getLogger(__name__)


def default_workdir(config: Config) -> str:
    """`runs/` and the name of the data set; of a pattern, that of its folder."""
    folder, name = os.path.split(os.path.normpath(config.dataset))
    if glob.has_magic(name) and is_pattern(config.dataset):
        name = os.path.basename(folder) or "data"
    return os.path.join("runs", os.path.splitext(name)[0])


@dataclasses.dataclass(frozen=True)
class RunStart:
    """What is known of a run before its first step.

    Attributes:
      config: the settings, with the batch size that was chosen.
      data: the data set.
      workdir: folder of the run.
      num_parameters: how many numbers are trained.
      device: what trains them, in words.
      precision: the one that was chosen.
      epochs_done: how many epochs the run has already.
      warnings: what the user should know of data and settings, one line each.
    """

    config: Config
    data: dataset.Data
    workdir: pathlib.Path
    num_parameters: int
    device: str
    precision: str
    epochs_done: int
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run that is trained, and not yet evaluated.

    Attributes:
      config: the settings, with the batch size that was chosen.
      data: the data set.
      run: its folder.
      is_chief: whether this process is the one that writes.
    """

    config: Config
    data: dataset.Data
    run: Workdir
    is_chief: bool


@dataclasses.dataclass(frozen=True, eq=False)
class RunResult(Mapping):
    """A run that is trained and evaluated. As a mapping it is the content of `evaluation.json`.

    Attributes:
      evaluation: the content of `evaluation.json`.
      workdir: folder of the run.
      written: the files there that hold settings and results.
    """

    evaluation: dict[str, Any]
    workdir: pathlib.Path
    written: tuple[pathlib.Path, ...]

    @property
    def epoch(self) -> int:
        """The epoch whose weights were evaluated, the best on validation."""
        return self.evaluation["epoch"]

    def __getitem__(self, name: str) -> Any:
        return self.evaluation[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.evaluation)

    def __len__(self) -> int:
        return len(self.evaluation)


def train_and_evaluate(
    config: Config,
    workdir: str | os.PathLike,
    *,
    on_start: Callable[[RunStart], None] | None = None,
    on_trained: Callable[[], None] | None = None,
    verbose: int = 0,
) -> RunResult | None:
    """Trains, or continues, the run in `workdir`, then evaluates it on test and draws samples.

    Where several workers share the run, all call this; only the chief, the first, writes and
    evaluates. Nothing is printed; what the user should know is logged as a warning of `nice_tf`.

    Args:
      config: the settings.
      workdir: folder of the run; see `Workdir` for what it then holds.
      on_start: called by the chief before the first step, with what there is to say, warnings
        among it; without it these are logged.
      on_trained: called by the chief after the last step, before the evaluation.
      verbose: 0 for nothing, 1 for a line per epoch and a moving bar, 2 for the line alone.

    Returns:
      The evaluation, and what was written; `None` on workers other than the chief.

    Raises:
      UserError: settings, data or folder break a rule, or the training diverged.
    """
    with devices.saying_out_of_memory("this run"):
        with _trained(config, workdir, on_start, verbose) as trained:
            if not trained.is_chief:
                return None
            if on_trained:
                on_trained()
            return _finish(trained.config, trained.data, trained.run)


def train_once(
    config: Config,
    workdir: str | os.PathLike,
    *,
    on_start: Callable[[RunStart], None] | None = None,
    verbose: int = 0,
) -> RunResult | None:
    """As `train_and_evaluate`, in a new folder that is soon gone: there are no checkpoints to
    continue from, no logs and no samples.

    Arguments, result and errors are those of `train_and_evaluate`, which has one more.
    """
    with devices.saying_out_of_memory("this run"):
        with _trained(config, workdir, on_start, verbose, is_kept=False) as trained:
            if not trained.is_chief:
                return None
            return _finish(trained.config, trained.data, trained.run, has_samples=False)


def train(
    config: Config,
    workdir: str | os.PathLike,
    *,
    on_start: Callable[[RunStart], None] | None = None,
    verbose: int = 0,
) -> TrainedRun:
    """Trains, or continues, the run in `workdir`; test is not looked at.

    Arguments and errors are those of `train_and_evaluate`.
    """
    with devices.saying_out_of_memory("this run"):
        with _trained(config, workdir, on_start, verbose) as trained:
            return trained


@contextlib.contextmanager
def _trained(config, workdir, on_start, verbose, *, is_kept=True):
    """What `train` returns; the chief holds the folder until the end of the block."""
    devices.let_memory_grow()
    strategy = devices.make_strategy(config.strategy)
    if config.deterministic:
        tf_keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
    data = dataset.load(config)
    batch_size = config.batch_size or _batch_size(data, strategy)
    config = dataclasses.replace(config, batch_size=batch_size)
    if batch_size % strategy.num_replicas_in_sync:
        raise UserError(
            f"batch_size {batch_size} cannot be shared equally by "
            f"{strategy.num_replicas_in_sync} replicas"
        )
    run = Workdir(workdir)
    description = data.description()
    if data.schema and is_begun(run):
        schema = run.schema_of_begun(config, description, data.schema)
        data = data.of_run(schema)
        description["schema"] = schema.as_dict()
    with strategy.scope():
        model = make_model(config, data)
    is_chief = devices.is_chief(strategy)
    with run.writing() if is_chief else contextlib.nullcontext():
        state, rows = _claimed_and_restored(run, config, description, model, strategy)
        callbacks = [NaNGuard(run, is_kept=is_kept), Progress(state, config)]
        if is_chief:
            start = _start(config, data, model, run, state, strategy)
            if on_start:
                on_start(start)
            else:
                for warning in start.warnings:
                    _LOG.warning("%s", warning)
            tidy(run, int(state.epoch))
            rows = _restore_metrics(run, rows, int(state.epoch))
            # The guard before all others. The recorder behind them: an epoch that it has saved has
            # left everything else, too.
            callbacks = [FolderGuard(run), *callbacks]
            if is_kept:
                callbacks += [
                    tf_keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False),
                    SamplePictures(run, data.levels, config, data.labels),
                    Recorder(run, state, rows),
                ]
            else:
                callbacks.append(RecorderAtEnd(run, state))
            callbacks.append(Standing(state, config))
        if not state.is_finished(config):
            with _saying_what_failed(data, run):
                fit(
                    model,
                    config,
                    data,
                    epochs_done=int(state.epoch),
                    callbacks=callbacks,
                    verbose=verbose if is_chief else 0,
                )
        yield TrainedRun(config, data, run, is_chief)


def _claimed_and_restored(run, config, description, model, strategy):
    """How far the run is, and its rows of metrics, once its folder is known to be of this run."""
    state = RunState()
    if devices.is_chief(strategy):
        chosen = {
            "precision": devices.choose_precision(config.precision),
            "jit_compile": bool(model.jit_compile),
        }
        run.claim(
            config,
            description,
            chosen,
            is_begun=is_begun(run),
            is_continued=is_continued(run),
        )
    rows = restore_last(run, model, state)
    agreed = {
        "settings": zlib.crc32(config.result_text().encode()),
        "data": int(description["sha256"][:8], 16),
        "the epoch of their checkpoint": int(state.epoch),
    }
    devices.check_agreement(strategy, agreed)
    return state, rows


def _start(config, data, model, run, state, strategy):
    warnings = list(data.warnings)
    if is_discrete(data.levels, data.steps) and config.dequantization == "none":
        warnings.append(
            "dequantization=none: on integer data the likelihood is unbounded, its figures mean "
            f"nothing; 1/s is kept above {MIN_INVERSE_SCALE_WITHOUT_NOISE}"
        )
    sizes = [int(np.prod(variable.shape)) for variable in model.flow.trainable_variables]
    return RunStart(
        config=config,
        data=data,
        workdir=run.path,
        num_parameters=sum(sizes),
        device=devices.describe(strategy),
        precision=devices.choose_precision(config.precision),
        epochs_done=int(state.epoch),
        warnings=tuple(warnings),
    )


def _restore_metrics(run, rows, epoch):
    """The rows of metrics.csv up to an epoch, which is written anew where it was changed."""
    try:
        found = run.read_metrics(up_to_epoch=epoch)
    except UserError as error:
        if rows is None:
            _LOG.warning("%s", error)
        found = []
    if rows is None:  # a checkpoint of an earlier version: the file is all there is
        rows = found
    if len(rows) < epoch:
        _LOG.warning("%s lacks %d of the %d epochs so far", run.metrics, epoch - len(rows), epoch)
    known = [[str(value) for value in row.values()] for row in rows]
    if known != [list(row.values()) for row in found]:
        _LOG.warning("%s was lost or changed: written anew from the checkpoint", run.metrics)
        run.write_metrics(rows)
    return rows


def _batch_size(data, strategy):
    """Small data want many steps per epoch, large data few calls."""
    size = min(max(len(data.train) // 100, 32), 1000, len(data.train))
    replicas = strategy.num_replicas_in_sync
    return max(size // replicas, 1) * replicas


def fit(
    model: FlowModel,
    config: Config,
    data: dataset.Data,
    *,
    epochs_done: int,
    callbacks: Sequence[tf_keras.callbacks.Callback],
    verbose: int = 0,
) -> None:
    """Trains from an epoch on.

    Args:
      model: restored or new.
      config: the settings.
      data: the data set.
      epochs_done: how many epochs are not done again.
      callbacks: what happens around the steps.
      verbose: 0 for nothing, 1 for a line per epoch and a moving bar, 2 for the line alone.
    """
    steps_per_epoch = len(data.train) // config.batch_size
    train = batches.training_batches(
        data.train,
        config.batch_size,
        seed=config.seed,
        first_step=epochs_done * steps_per_epoch,
        last_step=config.epochs * steps_per_epoch,
        classes=data.classes("train"),
        weights=data.weights_of("train"),
    )
    validation = batches.evaluation_batches(
        data.validation,
        config.batch_size,
        data.classes("validation"),
        data.weights_of("validation"),
    )
    callbacks = list(callbacks)
    if verbose:
        callbacks.append(EpochLines(has_bar=verbose == 1))
    model.fit(
        train,
        initial_epoch=epochs_done,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        validation_steps=-(-len(data.validation) // config.batch_size),
        verbose=0,
        callbacks=callbacks,
    )


@contextlib.contextmanager
def _saying_what_failed(data, run):
    """Names a data file that was written to or logs that cannot be, if that stopped TensorFlow, not
    its operations.
    """
    try:
        yield
    except tf.errors.OpError as error:
        data.check_unchanged()
        if str(run.tensorboard) in error.message:
            raise UserError(f"{run.tensorboard} cannot be written ({cause_of(error)})") from error
        raise


def finish(config: Config, data: dataset.Data, run: Workdir) -> RunResult:
    """Test log-likelihood and samples of the best checkpoint; a finished evaluation is read, not
    made again.
    """
    if data.schema and run.config.exists():
        _, trained_on = run.read_config()
        data = data.of_run(Schema.from_dict(trained_on["schema"]))
    with run.writing():
        return _finish(config, data, run)


def finish_stopped(workdir: str | os.PathLike, given: Mapping[str, Any] | None = None) -> RunResult:
    """Evaluates and closes a run that was stopped, at its best epoch so far, and draws its samples.

    The settings are those in the folder. The run can still be continued: the same training command
    goes on with the next epoch, and evaluates again if that finds a better one. Test is then read a
    second time.

    Args:
      workdir: folder of a run of `train` or `train_and_evaluate` with at least one epoch.
      given: settings by name. Those that change no result stand instead of the run's, as
        `data_dir` where the data were moved, and are written into the folder; others must be the
        run's own.

    Raises:
      UserError: no run with an epoch there, settings other than the run's, or data other than those
        it was trained on.
    """
    run = Workdir(workdir)
    run.check_keeps_data()
    begun, trained_on = run.read_config()
    config = _with_given(begun, given or {}, run)
    data = dataset.load(config)
    run.check_same_data(data.description(), trained_on)
    if data.schema:
        data = data.of_run(Schema.from_dict(trained_on["schema"]))
    with devices.saying_out_of_memory("the evaluation of this run"), run.writing():
        if config != begun:  # what comes next reads the data there, too
            run.change_settings(config)
        return _finish(config, data, run)


def _with_given(config, given, run):
    """The settings of a run with those that may differ from them."""
    changes = dict(given)
    if not changes.get("batch_size", 1):  # of a run it is the one that was chosen
        del changes["batch_size"]
    changed = dataclasses.replace(config, **changes)
    differing = changed.differences(config)
    if differing:
        raise UserError(
            f"workdir {run.path} is finished with the settings that it was begun with, got others "
            f"({'; '.join(differing)}): leave them out, or train in another workdir"
        )
    return changed


def _finish(config, data, run, *, has_samples=True):
    flow = make_flow(
        config,
        data.event_shape,
        num_classes=data.num_classes,
        levels=data.levels,
        schema=data.schema,
    )
    flow, epoch = restore_best(run, flow)
    for path in run.changed(run.evaluation, run.calibration, run.rank_calibration):
        _LOG.warning("%s was changed after it was written: it is computed anew", path)
    draws = likelihood.number_of_draws(data.levels, data.steps, config, data.spikes)
    result = run.read_evaluation(epoch=epoch, num_draws=draws)
    split = "test"
    if config.test_rows == "validation":
        split = "validation"
    # Runs of earlier versions have none of ranks.
    has_all = run.rank_calibration.exists() or not calibration.has_ranks(flow, data.schema)
    is_new = result is None
    if result is None:
        with _saying_what_failed(data, run):
            result = likelihood.evaluate(
                flow,
                data.test,
                levels=data.levels,
                config=config,
                split=split,
                dataset=data.name,
                epoch=epoch,
                schema=data.schema,
                labels=data.labels,
            )
    if is_new or not has_all:
        with _saying_what_failed(data, run):
            usual, usual_ranks = calibration.calibration(
                flow,
                data.validation,
                levels=data.levels,
                config=config,
                schema=data.schema,
                labels=data.labels,
            )
        run.check_is_held()
        run.write_evaluation(result, usual, usual_ranks)
    samples: list[pathlib.Path] = []
    if has_samples:
        samples = write_samples(flow, data, config, run)
    written = [run.config, run.metrics, run.evaluation, run.calibration]
    if run.rank_calibration.exists():
        written.append(run.rank_calibration)
    return RunResult(result, run.path, (*written, *samples))
