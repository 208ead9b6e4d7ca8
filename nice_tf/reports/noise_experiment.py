"""Experiments that take more than one run."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from nice_tf import drawing
from nice_tf.config import Config
from nice_tf.data import dataset
from nice_tf.errors import UserError
from nice_tf.evaluation import likelihood
from nice_tf.flows import analysis
from nice_tf.flows.flow import sample
from nice_tf.runs import finished
from nice_tf.runs.architecture import MIN_INVERSE_SCALE_WITHOUT_NOISE
from nice_tf.runs.workdir import Workdir
from nice_tf.seeds import stateless_seed
from nice_tf.training.run import RunResult, RunStart, train_and_evaluate
from nice_tf.training.samples import NUM_SAMPLES

# The two ways to train and to score, and what the latter is called in the result.
_NAMES = {"uniform": "with", "none": "without"}


def noise_experiment(
    config: Config,
    workdir: str | os.PathLike,
    *,
    on_start: Callable[[RunStart], None] | None = None,
    on_result: Callable[[RunResult], None] | None = None,
    verbose: int = 0,
) -> list[dict[str, Any]]:
    """Trains and scores the same flow with and without dequantization noise.

    Without noise the data are points: the flow can put a spike on each value that never varies, as
    narrow as the floor on 1/s lets it, and its likelihood says how low the floor is, not how good
    the model is. Scored with noise, as the integers' own bits per dimension need, the spikes cost
    dearly.

    Args:
      config: settings of both runs, except `dequantization`; integer data.
      workdir: folder of the runs `uniform` and `none`, and of what is written: `noise.json`, and
        for pictures `noise.png` with samples of both, trained with noise on the left.
      on_start: as for `train_and_evaluate`.
      on_result: called with the result of each run.
      verbose: as for `train_and_evaluate`.

    Returns:
      One row per run: what it was trained with, its validation log-likelihoods in nats with noise
      and without, how many 1/s lie at the floor, and the nats that a floor ten times lower would
      add to the figure without noise.

    Raises:
      UserError: as `train_and_evaluate`; or data that are not integers.
    """
    config.check_is_unconditional("noise_experiment")
    data = dataset.load(config)
    if data.levels is None:
        raise UserError(f"{data.name} is continuous: there is no noise to leave out")
    folder = pathlib.Path(workdir)
    rows = []
    grids = []
    for noise in _NAMES:
        settings = dataclasses.replace(config, dequantization=noise)
        result = train_and_evaluate(settings, folder / noise, on_start=on_start, verbose=verbose)
        if result and on_result:
            on_result(result)
        run = finished.load_finished_run(folder / noise)
        rows.append(_row(run, settings))
        if drawing.is_image(run.data.event_shape):
            drawn = sample(run.flow, NUM_SAMPLES, seed=stateless_seed(config.seed, "samples"))
            grids.append(run.grid(drawn))
    Workdir(folder).write_json(folder / "noise.json", rows)
    if grids:
        drawing.write_png(folder / "noise.png", drawing.side_by_side(grids), min_width=1200)
    return rows


def _row(run: finished.FinishedRun, settings: Config) -> dict[str, Any]:
    row: dict[str, Any] = {"trained_with": settings.dequantization}
    for noise, name in _NAMES.items():
        nats = likelihood.log_probs(
            run.flow,
            run.data.validation,
            levels=run.data.levels,
            config=dataclasses.replace(settings, dequantization=noise),
            split="validation",
        )
        row[f"log_prob_{name}_noise"] = float(nats.mean())
    sigma = analysis.inverse_scales(run.flow).numpy()
    row["num_at_floor"] = int(np.sum(sigma < 1.01 * MIN_INVERSE_SCALE_WITHOUT_NOISE))
    row["nats_of_a_floor_ten_times_lower"] = row["num_at_floor"] * float(np.log(10))
    return row
