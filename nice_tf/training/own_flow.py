"""Training of a flow that the user built, on arrays in memory."""

import dataclasses

import numpy as np
import numpy.typing as npt
import tensorflow_probability as tfp
import tf_keras

from nice_tf.bijectors.parameters import Layer
from nice_tf.config import Config
from nice_tf.data.checks import as_integers, check_values, find_levels
from nice_tf.data.dataset import Data
from nice_tf.errors import UserError, check_count
from nice_tf.flows.density import layers
from nice_tf.flows.summary import num_parameters
from nice_tf.training import run
from nice_tf.training.devices import choose_jit_compile, choose_steps_per_execution
from nice_tf.training.model import FlowModel
from nice_tf.training.optimizers import make_optimizer

tfb = tfp.bijectors
tfd = tfp.distributions

# Of layers in a flow of `build_flow`.
_KINDS = (Layer, tfb.Permute, tfb.Reshape, tfb.Scale)


def fit(
    flow: tfd.TransformedDistribution,
    data: npt.ArrayLike,
    *,
    validation: npt.ArrayLike | float = 1 / 6,
    levels: int | None = None,
    initialize: bool = True,
    epochs: int = 100,
    early_stopping_epochs: int = 0,
    batch_size: int = 200,
    learning_rate: float = 1e-3,
    schedule: str = "constant",
    seed: int = 0,
    verbose: int = 0,
) -> dict[str, list[float]]:
    """Trains a flow of your own by maximum likelihood, and leaves it with the weights of its best
    epoch on validation.

    The steps are those of `train_and_evaluate`, with Adam as `Config` has it; nothing is written.

    Args:
      flow: of `build_flow`, or any `tfd.TransformedDistribution` with trainable variables, over one
        example and without a context.
      data: examples, `[N, *event_shape]`: floating-point numbers as they are, or integers 0 to
        levels - 1.
      validation: examples as `data`; or the share of `data` that is split off, above 0 and below 1.
      levels: number of integer levels: the flow is then of x on [0, 1], with fresh noise for each
        value at each visit; 256 for uint8. `None` for continuous data.
      initialize: set what a flow of `build_flow`'s kinds of layers takes from data first, as
        `initialize_from_data` does; `False` to go on from where the flow is.
      epochs: passes over the training examples.
      early_stopping_epochs: stop after so many without a better validation; 0 for never.
      batch_size: examples per step; of fewer training examples, all of them.
      learning_rate: of Adam.
      schedule: `"constant"`, or `"cosine"`, which falls to 0.
      seed: of the split, the order and the noise.
      verbose: 0 for nothing, 1 for a line per epoch and a moving bar, 2 for the line alone.

    Returns:
      By name a list with a value for each epoch: `log_prob` of training, in nats per example, and
      `val_log_prob`; `bits_per_dim` and `val_bits_per_dim` of integer data.

    Raises:
      UserError: data or settings break a rule, the flow has nothing to train, or it diverged.

    Examples:
      >>> import nice_tf
      >>> import numpy as np
      >>> x = np.random.default_rng(0).normal([3.0, -1.0], [2.0, 0.5], [600, 2])
      >>> flow = nice_tf.build_flow([2], hidden_units=(16,))
      >>> history = nice_tf.fit(flow, x, epochs=3)
      >>> len(history["val_log_prob"])  # nats per example, one number per epoch
      3
    """
    if not num_parameters(flow):
        raise UserError("the flow has no trainable variables: there is nothing to fit")
    config = Config(
        epochs=epochs,
        early_stopping_epochs=early_stopping_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        seed=seed,
    )
    check_count("batch_size", batch_size, 1)  # of a run 0 is a size of its own choice
    if levels is not None:
        check_count("levels", levels, 2)
    train, held_out = _split(np.asarray(data), validation, seed)
    arrays = {"data": train, "validation": held_out}
    for name, values in arrays.items():
        check_values(values, name)
        if list(values.shape[1:]) != list(flow.event_shape):
            raise UserError(
                f"{name} has examples of shape {list(values.shape[1:])}, the flow is of shape "
                f"{list(flow.event_shape)}"
            )
    levels = find_levels(arrays, levels, "data")
    if levels:
        arrays = as_integers(arrays, levels)
    train, held_out = arrays.values()
    config = dataclasses.replace(config, batch_size=min(batch_size, len(train)))
    model = FlowModel(flow, flow, levels=levels, seed=seed)
    if initialize and _starts_from_data(flow):
        model.initialize_from_data(train)
    steps_per_epoch = len(train) // config.batch_size
    model.compile(
        make_optimizer(config, flow, steps_per_epoch),
        jit_compile=choose_jit_compile(config.jit_compile),
        steps_per_execution=choose_steps_per_execution(0, steps_per_epoch),
    )
    best = _Best(config.early_stopping_epochs)
    split = Data("data", train, held_out, held_out, levels)
    try:
        run.fit(model, config, split, epochs_done=0, callbacks=[best], verbose=verbose)
    finally:  # also after Ctrl-C, or where a later epoch went wrong
        best.restore()
    return best.history


def _split(data, validation, seed):
    """Training and validation examples."""
    if not isinstance(validation, int | float):
        return data, np.asarray(validation)
    if not 0 < validation < 1:
        raise UserError(
            f"validation must be examples, or a share of data above 0 and below 1, got {validation}"
        )
    number = max(2, round(validation * len(data)))
    if data.ndim < 2 or len(data) - number < 2:
        raise UserError(
            f"data has shape {list(data.shape)}: [examples, values...] is needed, with at least 2 "
            f"examples beside the {number} for validation"
        )
    order = np.random.default_rng(seed).permutation(len(data))
    return data[order[number:]], data[order[:number]]


def _starts_from_data(flow):
    """Whether all layers are of the kinds that `build_flow` chains."""
    try:
        found = layers(flow)
    except (AttributeError, UserError):  # the bijector is no inverted chain
        return False
    return all(isinstance(layer, _KINDS) for layer in found)


class _Best(tf_keras.callbacks.Callback):
    """Keeps the weights of the best epoch, and what there is to say of each."""

    def __init__(self, patience: int):
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self._patience = patience
        self._weights: list[np.ndarray] = []
        self._log_prob = -np.inf
        self._num_worse = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Compares the epoch."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
            if not np.isfinite(value):
                raise UserError(
                    f"{name} became {value} in epoch {epoch + 1}: try a smaller learning_rate"
                )
        self._num_worse += 1
        if logs["val_log_prob"] > self._log_prob:
            self._log_prob = logs["val_log_prob"]
            self._weights = [variable.numpy() for variable in self._variables]
            self._num_worse = 0
        if self._patience and self._num_worse >= self._patience:
            self.model.stop_training = True

    @property
    def _variables(self):
        return self.model.flow.trainable_variables

    def restore(self) -> None:
        """Gives the flow these weights, if there are any yet."""
        if not self._weights:
            return
        for variable, value in zip(self._variables, self._weights, strict=True):
            variable.assign(value)
