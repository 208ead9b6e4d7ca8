"""Batches of a data set, the same whether it is in memory or on disk."""

import numpy as np
import tensorflow as tf

from nice_tf.data.rows import Array, Rows
from nice_tf.seeds import stateless_seed


def training_batches(
    train: Array,
    batch_size: int,
    *,
    seed: int,
    first_step: int,
    last_step: int,
    classes: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Shuffled training batches, each a pure function of (seed, step), so that a run resumes at any
    step.

    Every epoch of `len(train) // batch_size` steps visits the examples in a new order and drops the
    remainder.

    Args:
      train: `[N, *event_shape]`.
      batch_size: at most N.
      seed: the run's seed.
      first_step: first step to give.
      last_step: first step not to give any more.
      classes: number of the class of each example, `[N]`.
      weights: that of each example, `[N]`.

    Returns:
      A `tf.data.Dataset` of `last_step - first_step` batches `[batch_size, *event_shape]`; with
      classes or weights of tuples: such a batch, its classes and its weights, `[batch_size]` each.
    """
    steps_per_epoch = len(train) // batch_size
    gather = _gather_from(train)
    gather_others = [_gather_from(of_each) for of_each in _given(classes, weights)]

    def batch(step):
        order = stateless_seed(seed, "data_order", step // steps_per_epoch)
        positions = (step % steps_per_epoch) * batch_size + tf.range(batch_size, dtype=tf.int64)
        rows = tf.random.experimental.index_shuffle(positions, seed=order, max_index=len(train) - 1)
        values = tf.ensure_shape(gather(rows), [batch_size, *train.shape[1:]])
        if gather_others:
            return values, *[gather_other(rows) for gather_other in gather_others]
        return values

    steps = tf.data.Dataset.range(first_step, last_step)
    batches = steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _sharded_by_rows(batches).prefetch(tf.data.AUTOTUNE)


def _given(*arrays):
    return [array for array in arrays if array is not None]


def _gather_from(values):
    """A function of row numbers in a graph, which gives the rows: from memory, or read where they
    are asked for.
    """
    if not isinstance(values, Rows):
        with tf.device("CPU"):
            examples = tf.constant(values)

        def gather(rows):
            return tf.gather(examples, rows)

        return gather
    dtype = tf.as_dtype(values.dtype.newbyteorder("="))

    def read(rows):
        return values[rows].astype(dtype.as_numpy_dtype, copy=False)

    def gather_by_reading(rows):
        # Said to be stateless, because it is: else deterministic runs would read one batch after
        # the other.
        return tf.numpy_function(read, [rows], dtype, stateful=False)

    return gather_by_reading


def evaluation_batches(
    values: Array,
    batch_size: int,
    classes: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tf.data.Dataset:
    """All examples in order, as pairs (number of the batch for each row, batch); the last batch may
    be smaller.

    With the number of each example's class or its weight, `[N]`, a batch is a tuple, as one of
    `training_batches`.
    """
    if isinstance(values, Rows):
        batches = _batches_of_rows(values, batch_size)
    else:
        batches = tf.data.Dataset.from_tensor_slices(values).batch(batch_size)
    numbered = batches.enumerate().map(_with_number_of_each)
    others = _given(classes, weights)
    if others:
        each = tf.data.Dataset.from_tensor_slices(tuple(others)).batch(batch_size)
        numbered = tf.data.Dataset.zip((numbered, each)).map(_with_others)
    return _sharded_by_rows(numbered).prefetch(tf.data.AUTOTUNE)


def _batches_of_rows(values, batch_size):
    """All rows of a file in order."""
    gather = _gather_from(values)

    def batch(rows):
        return tf.ensure_shape(gather(rows), [None, *values.shape[1:]])

    numbers = tf.data.Dataset.range(len(values)).batch(batch_size)
    return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE)


def _with_number_of_each(number, batch):
    return tf.fill(tf.shape(batch)[:1], number), batch


def _with_others(numbered, others):
    number, batch = numbered
    return number, (batch, *others)


def _sharded_by_rows(batches):
    """Where several workers share a batch, each takes its rows of it."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
