"""What the settings describe: the flow, and the Keras model around it."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from nice_tf.config import Config
from nice_tf.data.dataset import Data
from nice_tf.data.rows import chunks, select
from nice_tf.data.schema import Spikes
from nice_tf.data.units import to_density_units
from nice_tf.errors import UserError
from nice_tf.evaluation.metrics import bits_per_dim
from nice_tf.flows.density import context_kwargs
from nice_tf.flows.initialization import initialize_from_data
from nice_tf.runs.architecture import check_memory, make_flow
from nice_tf.seeds import stateless_seed
from nice_tf.training.augmentation import mirror_images, mirrored, shift_images
from nice_tf.training.devices import (
    choose_jit_compile,
    choose_precision,
    choose_steps_per_execution,
)
from nice_tf.training.optimizers import make_optimizer

tfd = tfp.distributions

# More training values than these (SVHN has 0.19e9) are not all looked at before training: they
# would fill the memory.
_VALUES_TO_START_FROM = 2**28

# The weights, those for validation, their gradient, and two of the optimizer.
_COPIES_IN_TRAINING = 5


class FlowModel(tf_keras.Model):
    """A flow with what Keras needs to fit it.

    Training writes `flow`, and its own running figures are of `flow`; validation, pictures and
    evaluation read `evaluation_flow`, which has a full-precision conditioner and the averaged
    weights when averaging is on.
    """

    def __init__(
        self,
        flow: tfd.TransformedDistribution,
        evaluation_flow: tfd.TransformedDistribution,
        *,
        levels: int | None,
        steps: np.ndarray | None = None,
        spikes: Spikes | None = None,
        dequantization: str = "uniform",
        ema_decay: float = 0.0,
        dropout: float = 0.0,
        max_shift: int = 0,
        num_shifted_steps: int = 0,
        is_mirrored: bool = False,
        num_classes: int = 0,
        is_weighted: bool = False,
        seed: int = 0,
    ):
        """Makes the model.

        Args:
          flow: the density to train.
          evaluation_flow: the same architecture with variables of its own; they are overwritten.
          levels: number of integer levels of the data; `None` for others.
          steps: as for `to_density_units`.
          spikes: as for `to_density_units`.
          dequantization: as `Config.dequantization`.
          ema_decay: as `Config.ema_decay`.
          dropout: that of the conditioners of `flow`.
          max_shift: as `Config.max_shift`.
          num_shifted_steps: how many steps see shifted pictures.
          is_mirrored: as `Config.mirror`.
          num_classes: C, `context_size` of both flows: all batches then also have the numbers of
            their classes; 0 for p(x).
          is_weighted: all batches end with the weights of their examples, of mean 1.
          seed: of the noise.
        """
        super().__init__()
        self.flow = flow
        self.evaluation_flow = evaluation_flow
        self._levels = levels
        self._steps = steps
        self._spikes = spikes
        self._dequantization = dequantization
        self._ema_decay = ema_decay
        self._dropout = dropout
        self._max_shift = max_shift
        self._num_shifted_steps = num_shifted_steps
        self._is_mirrored = is_mirrored
        self._num_classes = num_classes
        self._is_weighted = is_weighted
        self._seed = seed
        self._means = {"log_prob": tf_keras.metrics.Mean("log_prob")}
        if levels is not None:
            self._means["bits_per_dim"] = tf_keras.metrics.Mean("bits_per_dim")
        self._copy_to_evaluation_flow()

    @property
    def metrics(self) -> list[tf_keras.metrics.Metric]:
        """The metrics Keras resets at the start of each epoch and each validation."""
        return list(self._means.values())

    def density_units(
        self, values: tf.Tensor, purpose: str, *counters: int | tf.Tensor
    ) -> tf.Tensor:
        """Data values to x, with noise of its own for this purpose and these counters."""
        noise_seed = stateless_seed(self._seed, purpose, *counters)
        return to_density_units(
            values,
            self._levels,
            self._dequantization,
            noise_seed,
            steps=self._steps,
            spikes=self._spikes,
            dtype=self.flow.dtype,
        )

    def initialize_from_data(
        self,
        values: np.ndarray,
        classes: np.ndarray | None = None,
        *,
        scales: bool = True,
        parts: Iterable[np.ndarray] | None = None,
    ) -> None:
        """Sets what the flow takes from training data, as `nice_tf.initialize_from_data` does.

        Args:
          values: training examples in data units.
          classes: theirs, of a conditional density.
          scales: as for `nice_tf.initialize_from_data`.
          parts: as for `nice_tf.initialize_from_data`, in data units.
        """
        x = self.density_units(values, "initialization")
        if parts is not None:
            numbered = enumerate(parts)
            parts = (
                self.density_units(part, "marginals", number).numpy() for number, part in numbered
            )
        initialize_from_data(
            self.flow, x, context=self._context(classes), scales=scales, parts=parts
        )
        self._copy_to_evaluation_flow()

    def _context(self, classes):
        if classes is None:
            return None
        return tf.one_hot(classes, self._num_classes, dtype=self.flow.dtype)

    def _parts(self, batch):
        """Values, classes and weights of a batch; `None` for what its examples have not."""
        if not self._num_classes and not self._is_weighted:
            return batch, None, None
        if not self._is_weighted:
            return *batch, None
        if self._num_classes:
            return batch
        values, weights = batch
        return values, None, weights

    def train_step(self, batch: tf.Tensor | tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of the optimizer on data values, perhaps with classes or weights."""
        values, classes, weights = self._parts(batch)
        step = self.optimizer.iterations
        replicas = tf.distribute.get_replica_context()
        counters = (step, replicas.replica_id_in_sync_group)
        if self._max_shift:
            max_shift = tf.where(step < self._num_shifted_steps, self._max_shift, 0)
            values = shift_images(values, max_shift, stateless_seed(self._seed, "shift", *counters))
        if self._is_mirrored:
            values = mirror_images(values, stateless_seed(self._seed, "mirror", *counters))
        x = self.density_units(values, "train_noise", *counters)
        dropout_seed = None
        if self._dropout:
            dropout_seed = stateless_seed(self._seed, "dropout", *counters)
        kwargs = context_kwargs(self._context(classes), dropout_seed=dropout_seed)
        variables = self.flow.trainable_variables
        with tf.GradientTape() as tape:
            log_prob = self.flow.log_prob(x, **kwargs)
            # The optimizer adds the gradients of all replicas, which have equal parts of a batch.
            counted = log_prob
            if weights is not None:
                counted = log_prob * tf.cast(weights, log_prob.dtype)
            loss = -tf.reduce_mean(counted) / replicas.num_replicas_in_sync
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self._ema_decay:
            replicas.merge_call(self._update_averages)
        return self._updated_means(log_prob, weights)

    def _update_averages(self, strategy):
        def update(average, variable):
            average.assign_sub((1 - self._ema_decay) * (average - variable))

        averages = self.evaluation_flow.trainable_variables
        variables = self.flow.trainable_variables
        for average, variable in zip(averages, variables, strict=True):
            strategy.extended.update(average, update, args=(variable,), group=False)

    def test_step(
        self, numbered_batch: tuple[tf.Tensor, tf.Tensor | tuple[tf.Tensor, tf.Tensor]]
    ) -> dict[str, tf.Tensor]:
        """Adds one batch of validation, with noise of its own at each visit."""
        numbers, batch = numbered_batch
        values, classes, weights = self._parts(batch)
        number = tf.reduce_max(numbers)  # of the batch; a replica's part of it may be empty
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        x = self.density_units(
            values, "validation_noise", self.optimizer.iterations, number, replica
        )
        kwargs = context_kwargs(self._context(classes))
        return self._updated_means(self.evaluation_flow.log_prob(x, **kwargs), weights)

    def evaluate(self, *args: Any, **kwargs: Any) -> float | list[float] | dict[str, float]:
        """As `tf_keras.Model.evaluate`, on the newest weights."""
        if not self._ema_decay:
            self._copy_to_evaluation_flow()
        return super().evaluate(*args, **kwargs)

    def _copy_to_evaluation_flow(self):
        targets = self.evaluation_flow.variables
        for target, variable in zip(targets, self.flow.variables, strict=True):
            target.assign(variable)

    def _updated_means(self, log_prob, weights):
        self._means["log_prob"].update_state(log_prob, sample_weight=weights)
        if self._levels is not None:
            event_size = self.flow.event_shape.num_elements()
            bits = bits_per_dim(log_prob, event_size, self._levels)
            self._means["bits_per_dim"].update_state(bits, sample_weight=weights)
        return {name: mean.result() for name, mean in self._means.items()}


def _to_start_from(train, whitening):
    """Which examples the flow starts from: all, or every n-th of a large set.

    It goes by the number of values alone, not by where they lie, so that data on disk and in memory
    start alike.
    """
    size = math.prod(train.shape[1:])
    if len(train) * size <= _VALUES_TO_START_FROM:
        return slice(None)
    number = 10_000
    if whitening not in ("none", "standardize"):
        number = max(number, 8 * size)  # a covariance wants more than D
    return slice(None, None, -(-len(train) // number))


def _with_mirrored(train, classes, parts):
    """Each training picture, and behind all of them each of them mirrored."""
    if parts is not None:
        parts = (picture for part in parts for picture in (part, mirrored(part)))
    if classes is not None:
        classes = np.concatenate([classes, classes])
    return np.concatenate([train, mirrored(train)]), classes, parts


def _that_count(data):
    """Training examples and their classes, without those of weight 0."""
    weights = data.weights_of("train")
    classes = data.classes("train")
    if weights is None or weights.all():
        return data.train, classes
    counted = np.flatnonzero(weights)
    if classes is not None:
        classes = classes[counted]
    return select(data.train, counted), classes


def make_model(config: Config, data: Data) -> FlowModel:
    """The model that the settings describe, initialised from the training data and compiled."""
    steps_per_epoch = len(data.train) // config.batch_size
    check_memory(config, data.event_shape, data.num_classes, copies=_COPIES_IN_TRAINING)
    _check_pictures(config, data.event_shape)
    compute_dtype = None
    if choose_precision(config.precision) == "bfloat16":
        compute_dtype = tf.bfloat16
    known: dict[str, Any] = {
        "num_classes": data.num_classes,
        "levels": data.levels,
        "schema": data.schema,
    }
    flow = make_flow(
        config, data.event_shape, dropout=config.dropout, compute_dtype=compute_dtype, **known
    )
    model = FlowModel(
        flow,
        make_flow(config, data.event_shape, **known),
        levels=data.levels,
        steps=data.steps,
        spikes=data.spikes,
        dequantization=config.dequantization,
        ema_decay=config.ema_decay,
        dropout=config.dropout,
        max_shift=config.max_shift,
        num_shifted_steps=config.num_shifted_epochs * steps_per_epoch,
        is_mirrored=config.mirror,
        num_classes=data.num_classes,
        is_weighted=data.weights is not None,
        seed=config.seed,
    )
    if config.data_init or config.whitening != "none" or config.marginals != "none":
        train, classes = _that_count(data)
        rows = _to_start_from(train, config.whitening)
        parts = None
        if rows != slice(None):
            parts = chunks(train)
        if classes is not None:
            classes = classes[rows]
        train = train[rows]
        if config.mirror:
            train, classes, parts = _with_mirrored(train, classes, parts)
        model.initialize_from_data(train, classes, scales=config.data_init, parts=parts)
    model.compile(
        make_optimizer(config, model.flow, steps_per_epoch),
        jit_compile=choose_jit_compile(config.jit_compile, tf.distribute.get_strategy()),
        steps_per_execution=choose_steps_per_execution(config.steps_per_execution, steps_per_epoch),
    )
    return model


def _check_pictures(config, event_shape):
    """Checks that what is asked of pictures is asked of pictures."""
    is_picture = len(event_shape) == 3
    if config.mirror and not is_picture:
        raise UserError(
            f"mirror is for pictures [height, width, channels], got examples of shape {event_shape}"
        )
    max_shift = config.max_shift
    if not max_shift:
        return
    if not is_picture or min(event_shape[:2]) <= max_shift:
        raise UserError(
            f"max_shift {max_shift} is for pictures [height, width, channels] larger than that, "
            f"got examples of shape {event_shape}"
        )
