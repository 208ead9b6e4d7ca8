"""A finished run, read back: its flow, its data."""

import dataclasses
import os

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf import drawing
from nice_tf.config import Config
from nice_tf.data import dataset
from nice_tf.data.schema import Schema
from nice_tf.data.units import bin_centres, to_data_units
from nice_tf.errors import UserError
from nice_tf.runs.architecture import flow_of_description
from nice_tf.runs.checkpoints import restore_best
from nice_tf.runs.workdir import Workdir

tfd = tfp.distributions


def load_flow(workdir: str | os.PathLike) -> tfd.TransformedDistribution:
    """The trained density of a run, with the weights of its best epoch.

    Its x is on [0, 1] for integer data: `nice_tf.dequantize` makes it from integers. A run with
    `condition_on` gives p(x | context), whose every call takes `nice_tf.context_kwargs(context)`. A
    context is one-hot, `[..., C]`, the classes in the order in which `config.json` lists them,
    under data, labels, classes.

    Args:
      workdir: folder of a run of `train_and_evaluate`.

    Returns:
      A `tfd.TransformedDistribution` over the data's event shape.

    Raises:
      UserError: no run there, or a damaged one.
    """
    run = Workdir(workdir)
    config, data = run.read_config()
    flow = flow_of_description(config, data)
    flow, _ = restore_best(run, flow)
    return flow


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run with its trained flow and its data; figures show validation examples, never test.

    Attributes:
      config: the settings.
      flow: with the weights of the best epoch.
      epoch: the best epoch.
      data: the data set, split.
    """

    config: Config
    flow: tfd.TransformedDistribution
    epoch: int
    data: dataset.Data

    @property
    def schema(self) -> Schema:
        """The columns of a table.

        Raises:
          UserError: the data are no table.
        """
        if self.data.schema is None:
            raise UserError(f"{self.data.name} is no table: it has no columns")
        return self.data.schema

    def density_units(self, values: np.ndarray) -> tf.Tensor:
        """Data values to x, integers at the centre of their bins."""
        if self.data.levels is None:
            return tf.cast(values, self.flow.dtype)
        return bin_centres(values, self.data.levels, dtype=self.flow.dtype)

    def contexts(self, numbers: np.ndarray) -> np.ndarray | None:
        """What the density is given of classes by number, `[n, C]`; `None` of p(x)."""
        if self.data.labels is None:
            return None
        return self.data.labels.one_hot(numbers)

    def grid(self, x: tf.Tensor, *, columns: int = drawing.COLUMNS) -> np.ndarray:
        """Examples in density units as one picture."""
        examples = tf.reshape(x, [-1, *self.data.event_shape])
        values = to_data_units(examples, self.data.levels).numpy()
        return drawing.image_grid(values, levels=self.data.levels, columns=columns)


def load_finished_run(
    workdir: str | os.PathLike, *, data_dir: str = "", manual_dir: str = ""
) -> FinishedRun:
    """Reads a finished run, and its data again from their source.

    Args:
      workdir: folder of a run of `train_and_evaluate`.
      data_dir: instead of the run's own, if given.
      manual_dir: instead of the run's own, if given.

    Raises:
      UserError: no finished run there, or data other than those it was trained on.
    """
    run = Workdir(workdir)
    run.check_keeps_data()
    with run.reading():
        config, trained_on = run.read_config()
        evaluation = run.finished_evaluation()
        flow = flow_of_description(config, trained_on)
        flow, epoch = restore_best(run, flow, evaluation["epoch"])
    config = dataclasses.replace(
        config, data_dir=data_dir or config.data_dir, manual_dir=manual_dir or config.manual_dir
    )
    data = dataset.load(config)
    run.check_same_data(data.description(), trained_on)
    if data.schema:
        data = data.of_run(Schema.from_dict(trained_on["schema"]))
    return FinishedRun(config, flow, epoch, data)
