"""A run, from settings to results: train or continue, evaluate, sample."""

import contextlib
import dataclasses
import glob
import os
import sys
import zlib
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from nice_tf import drawing
from nice_tf.config import Config
from nice_tf.data import batches, dataset
from nice_tf.data.paths import is_pattern
from nice_tf.data.schema import csv_bytes
from nice_tf.data.units import is_discrete, to_data_units
from nice_tf.errors import UserError, cause_of
from nice_tf.evaluation import ledger, likelihood
from nice_tf.files import write_atomically
from nice_tf.flows.analysis import denoise
from nice_tf.flows.flow import sample
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
from nice_tf.seeds import stateless_seed
from nice_tf.training import devices
from nice_tf.training.callbacks import FolderGuard, NaNGuard, Progress, Recorder, SamplePictures
from nice_tf.training.model import FlowModel, make_model


def default_workdir(config: Config) -> str:
    """`runs/` and the name of the data set; of a pattern, that of its folder."""
    folder, name = os.path.split(os.path.normpath(config.dataset))
    if glob.has_magic(name) and is_pattern(config.dataset):
        name = os.path.basename(folder) or "data"
    return os.path.join("runs", os.path.splitext(name)[0])


def train_and_evaluate(config: Config, workdir: str | os.PathLike) -> dict[str, Any] | None:
    """Trains, or continues, the run in `workdir`, then evaluates it on test and draws samples.

    Where several workers share the run, all call this; only the chief, the first, writes and
    evaluates.

    Args:
      config: the settings.
      workdir: folder of the run; see `Workdir` for what it then holds.

    Returns:
      The content of `evaluation.json`; `None` on workers other than the chief.

    Raises:
      UserError: settings, data or folder break a rule, or the training diverged.
    """
    with (
        devices.saying_out_of_memory("this run"),
        _trained(config, workdir) as (config, data, run, is_chief),
    ):
        return _finish(config, data, run) if is_chief else None


def train(config: Config, workdir: str | os.PathLike) -> tuple[Config, dataset.Data, Workdir, bool]:
    """Trains, or continues, the run in `workdir`; test is not looked at. Arguments and errors as
    above.

    Returns:
      The settings with the batch size that was chosen, the data, the folder of the run, and whether
      this process is the chief.
    """
    with devices.saying_out_of_memory("this run"), _trained(config, workdir) as result:
        return result


@contextlib.contextmanager
def _trained(config, workdir):
    """What `train` returns; the chief holds the folder from before the first step to the end of the
    block.
    """
    devices.let_memory_grow()
    strategy = devices.make_strategy(config.strategy)
    if config.deterministic:
        tf_keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
    is_chief = devices.is_chief(strategy)
    data = dataset.load(config)
    config = dataclasses.replace(
        config, batch_size=config.batch_size or _batch_size(data, strategy)
    )
    if config.batch_size % strategy.num_replicas_in_sync:
        raise UserError(
            f"batch_size {config.batch_size} cannot be shared equally by "
            f"{strategy.num_replicas_in_sync} replicas"
        )
    run = Workdir(workdir)
    with strategy.scope():
        model = make_model(config, data)
    description = data.description()
    state = RunState()
    with run.writing() if is_chief else contextlib.nullcontext():
        if is_chief:
            chosen = {
                "precision": devices.choose_precision(config.precision),
                "jit_compile": bool(model.jit_compile),
            }
            run.claim(
                config, description, chosen, is_begun=is_begun(run), is_continued=is_continued(run)
            )
        rows = restore_last(run, model, state)
        agreed = {
            "settings": zlib.crc32(config.result_text().encode()),
            "data": int(description["sha256"][:8], 16),
        }
        devices.check_agreement(
            strategy, {**agreed, "the epoch of their checkpoint": int(state.epoch)}
        )
        if is_chief:
            _announce(config, data, model, run, state, strategy)
            tidy(run, int(state.epoch))
            rows = _restore_metrics(run, rows, int(state.epoch))
        if not state.is_finished(config):
            fit(model, config, data, run, state, rows or [], is_chief=is_chief)
        yield config, data, run, is_chief


def _restore_metrics(run, rows, epoch):
    """The rows of metrics.csv up to an epoch; the file, if it is another than its checkpoint knows,
    is written anew.
    """
    try:
        found = run.read_metrics(up_to_epoch=epoch)
    except UserError as error:
        if rows is None:
            print(f"warning    {error}", flush=True)
        found = []
    if rows is None:  # a checkpoint of an earlier version: the file is all there is
        rows = found
    if len(rows) < epoch:
        print(
            f"warning    {run.metrics} lacks {epoch - len(rows)} of the {epoch} epochs so far",
            flush=True,
        )
    known = [[str(value) for value in row.values()] for row in rows]
    if known != [list(row.values()) for row in found]:
        print(
            f"warning    {run.metrics} was lost or changed: written anew from the checkpoint",
            flush=True,
        )
        run.write_metrics(rows)
    return rows


def _batch_size(data, strategy):
    """Small data want many steps an epoch, large data few calls."""
    size = min(max(len(data.train) // 100, 32), 1000, len(data.train))
    replicas = strategy.num_replicas_in_sync
    return max(size // replicas, 1) * replicas


def fit(
    model: FlowModel,
    config: Config,
    data: dataset.Data,
    run: Workdir,
    state: RunState,
    rows: list[dict[str, Any]],
    *,
    is_chief: bool = True,
) -> None:
    """Trains from the state's epoch on, the chief leaving checkpoints, metrics, TensorBoard logs
    and pictures.

    Args:
      model: restored or new.
      config: the settings.
      data: the data set.
      run: the folder, held by the chief.
      state: how far the run is.
      rows: of metrics.csv so far.
      is_chief: this process writes.
    """
    steps_per_epoch = len(data.train) // config.batch_size
    epochs_done = int(state.epoch)
    callbacks = [NaNGuard(run), Progress(state, config)]
    if is_chief:
        callbacks = [FolderGuard(run), *callbacks]
        callbacks += [
            tf_keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False),
            SamplePictures(run, data.levels, config, data.labels),
            Recorder(
                run, state, rows
            ),  # last: an epoch that it has saved has left everything else, too
        ]
    with _saying_what_failed(data, run):
        model.fit(
            batches.training_batches(
                data.train,
                config.batch_size,
                seed=config.seed,
                first_step=epochs_done * steps_per_epoch,
                last_step=config.epochs * steps_per_epoch,
                classes=data.classes("train"),
            ),
            initial_epoch=epochs_done,
            epochs=config.epochs,
            steps_per_epoch=steps_per_epoch,
            validation_data=batches.evaluation_batches(
                data.validation, config.batch_size, data.classes("validation")
            ),
            validation_steps=-(-len(data.validation) // config.batch_size),
            # A moving bar on a terminal, one line an epoch in a file.
            verbose=(1 if sys.stdout.isatty() else 2) if is_chief else 0,
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


def finish(config: Config, data: dataset.Data, run: Workdir) -> dict[str, Any]:
    """Test log-likelihood and samples of the best checkpoint; a finished evaluation is read, not
    made again.
    """
    with run.writing():
        return _finish(config, data, run)


def _finish(config, data, run):
    flow, epoch = restore_best(
        run, make_flow(config, data.event_shape, num_classes=data.num_classes)
    )
    draws = likelihood.number_of_draws(data.levels, data.steps, config)
    for path in run.changed(run.evaluation, run.calibration):
        print(
            f"warning    {path} was changed after it was written: it is computed anew", flush=True
        )
    result = run.read_evaluation(epoch=epoch, num_draws=draws)
    if result is None:
        with _saying_what_failed(data, run):
            result = likelihood.evaluate(
                flow,
                data.test,
                levels=data.levels,
                config=config,
                split="test",
                dataset=data.name,
                epoch=epoch,
                schema=data.schema,
                labels=data.labels,
            )
            usual = likelihood.calibration(
                flow, data.validation, levels=data.levels, config=config, labels=data.labels
            )
        run.check_is_held()
        run.write_evaluation(result, usual)
    written = _write_samples(flow, data, config, run)
    print(f"\n{ledger.as_text(result)}\n\nwritten to {run.path}:")
    for path in (run.config, run.metrics, run.evaluation, run.calibration, *written):
        print(f"  {path.relative_to(run.path)}")
    for path in (run.samples, run.last, run.best, run.tensorboard):
        print(f"  {path.relative_to(run.path)}/")
    return result


def _write_samples(flow, data, config, run):
    """Pictures as `samples.png` and `samples_denoised.png`, a table as `samples.csv`, other data as
    `samples.npy`.

    Of a conditional density pictures show a class in each row, a table has the column of the label,
    and other data have `samples_label.npy` beside them; these two with the classes as frequent as
    in train.
    """
    is_image, number, context, stated = drawing.is_image(data.event_shape), 100, None, {}
    if data.labels:
        classes = (
            drawing.rows_of_classes(data.num_classes)
            if is_image
            else data.labels.draw(number, seed=config.seed)
        )
        number, context = len(classes), data.labels.one_hot(classes)
        stated = {data.labels.name: data.labels.names(classes)}
    seed = stateless_seed(config.seed, "samples")
    x = sample(flow, number, seed=seed, temperature=config.temperature, context=context)
    if data.schema:
        path = run.path / "samples.csv"
        write_atomically(path, csv_bytes(data.schema.as_columns(x.numpy()) | stated))
        return [path]
    if is_image:
        shown = {
            run.path / "samples.png": x,
            run.path / "samples_denoised.png": denoise(flow, x, context=context),
        }
        for path, images in shown.items():
            values = to_data_units(images, data.levels).numpy()
            drawing.write_png(
                path, drawing.image_grid(values, levels=data.levels, columns=drawing.COLUMNS)
            )
        return list(shown)
    written = {run.path / "samples.npy": to_data_units(x, data.levels).numpy()}
    if data.labels:
        written[run.path / "samples_label.npy"] = stated[data.labels.name]
    for path, values in written.items():
        run.write_array(path, values)
    return list(written)


def _announce(config, data, model, run, state, strategy):
    parameters = sum(int(np.prod(variable.shape)) for variable in model.flow.trainable_variables)
    scale = (
        f"{data.levels} levels"
        if data.levels
        else "a table"
        if data.schema
        else "continuous values"
    )
    print(
        f"data       {data.name}: {len(data.train)} train, {len(data.validation)} validation, "
        f"{len(data.test)} test examples of shape {data.event_shape}, {scale}\nmodel      "
        f"{config.num_couplings} additive couplings, {config.prior} prior, {parameters:,} "
        f"parameters\ndevice     {devices.describe(strategy)}\nprecision  "
        f"{devices.choose_precision(config.precision)}\nworkdir    {run.path}"
        + (f", continued after epoch {int(state.epoch)}" if int(state.epoch) else "")
    )
    if data.schema:
        print(f"columns    {data.schema.describe()}")
    if data.labels:
        print(f"classes    {data.labels.describe()}")
    for warning in data.warnings:
        print(f"warning    {warning}")
    if config.max_shift:
        print(
            f"pictures   moved by up to {config.max_shift} pixels in the first "
            f"{config.num_shifted_epochs} epochs"
        )
    if is_discrete(data.levels, data.steps) and config.dequantization == "none":
        print(
            "warning    dequantization=none: on integer data the likelihood is unbounded, its "
            f"figures mean nothing; 1/s is kept above {MIN_INVERSE_SCALE_WITHOUT_NOISE}"
        )
    print(flush=True)
