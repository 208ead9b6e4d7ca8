"""The samples that a run leaves: pictures, a table, or an array."""

import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf import drawing
from nice_tf.config import Config
from nice_tf.data.dataset import Data
from nice_tf.data.labels import Labels
from nice_tf.data.schema import csv_bytes
from nice_tf.data.units import to_data_units
from nice_tf.files import write_atomically
from nice_tf.flows.analysis import denoise
from nice_tf.flows.flow import sample
from nice_tf.runs.workdir import Workdir
from nice_tf.seeds import stateless_seed

tfd = tfp.distributions

NUM_SAMPLES = 100


def draw_samples(
    flow: tfd.TransformedDistribution,
    config: Config,
    labels: Labels | None = None,
    classes: np.ndarray | None = None,
) -> tf.Tensor:
    """Samples of a run, which are always of the same codes z.

    Args:
      flow: the density.
      config: for `seed` and `temperature`.
      labels: of a conditional density.
      classes: number of the class of each sample, of a conditional density.

    Returns:
      x, `[100, *event_shape]`, or a sample for each class, in density units.
    """
    number = NUM_SAMPLES
    context = None
    if labels and classes is not None:
        number = len(classes)
        context = labels.one_hot(classes)
    seed = stateless_seed(config.seed, "samples")
    return sample(flow, number, seed=seed, temperature=config.temperature, context=context)


def picture_of(x: tf.Tensor, levels: int | None) -> np.ndarray:
    """Samples in density units as one grid."""
    values = to_data_units(x, levels).numpy()
    return drawing.image_grid(values, levels=levels, columns=drawing.COLUMNS)


def write_samples(
    flow: tfd.TransformedDistribution, data: Data, config: Config, run: Workdir
) -> list[pathlib.Path]:
    """Writes what a finished run leaves of samples; a conditional density says of which classes.

    Pictures become `samples.png` and `samples_denoised.png`, with a class in each row. A table
    becomes `samples.csv`, with the column of the label. Other data become `samples.npy`, with
    `samples_label.npy` beside it. In these two the classes are as frequent as in train.

    Args:
      flow: the density.
      data: the data set.
      config: the settings.
      run: the folder.

    Returns:
      The files.
    """
    is_image = drawing.is_image(data.event_shape)
    classes = None
    if data.labels and is_image:
        classes = drawing.rows_of_classes(data.num_classes)
    elif data.labels:
        classes = data.labels.draw(NUM_SAMPLES, seed=config.seed)
    x = draw_samples(flow, config, data.labels, classes)
    if data.schema:
        return _write_table(x, data, classes, run)
    if is_image:
        return _write_pictures(flow, x, data, classes, run)
    return _write_arrays(x, data, classes, run)


def _write_table(x, data, classes, run):
    # pyarrow is imported where a table is written: the start of other runs need not wait for it.
    from nice_tf.data.tables.encodings import decoded, for_csv

    found = for_csv(data.schema, decoded(data.schema, data.schema.as_rows(x.numpy())))
    columns = {name: texts.to_pylist() for name, texts in found.items()}
    if data.labels:
        columns[data.labels.name] = data.labels.names(classes)
    path = run.path / "samples.csv"
    write_atomically(path, csv_bytes(columns))
    return [path]


def _write_pictures(flow, x, data, classes, run):
    context = None
    if data.labels:
        context = data.labels.one_hot(classes)
    shown = {
        run.path / "samples.png": x,
        run.path / "samples_denoised.png": denoise(flow, x, context=context),
    }
    for path, images in shown.items():
        drawing.write_png(path, picture_of(images, data.levels))
    return list(shown)


def _write_arrays(x, data, classes, run):
    arrays = {run.path / "samples.npy": to_data_units(x, data.levels).numpy()}
    if data.labels:
        arrays[run.path / "samples_label.npy"] = data.labels.names(classes)
    for path, values in arrays.items():
        run.write_array(path, values)
    return list(arrays)
