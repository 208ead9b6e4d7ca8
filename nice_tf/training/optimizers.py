"""What the settings say of the optimizer: its kind, learning rate and momentum by step."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from nice_tf.bijectors.coupling import AdditiveCoupling
from nice_tf.config import Config
from nice_tf.flows.density import layers

tfd = tfp.distributions
schedules = tf_keras.optimizers.schedules


class FlooredDecay(schedules.LearningRateSchedule):
    """Learning rate that is divided by the same factor at each step, down to a lowest value."""

    def __init__(self, initial: float, factor: float, lowest: float):
        self.initial = initial
        self.factor = factor
        self.lowest = lowest

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate at a step: max(initial / factor^step, lowest)."""
        return tf.maximum(
            self.initial * tf.cast(self.factor, tf.float32) ** -tf.cast(step, tf.float32),
            self.lowest,
        )

    def get_config(self) -> dict[str, float]:
        """The arguments of `__init__`."""
        return {"initial": self.initial, "factor": self.factor, "lowest": self.lowest}


class FusedAdam(tf_keras.optimizers.Adam):
    """Adam with decoupled decay: Keras' equations and variables, with two passes over the weights
    instead of a dozen.

    An update is bound by memory. ResourceApplyAdam reads gradient, moments and weight once, and
    writes the last three once; ResourceApplyGradientDescent, along the weight itself, is the decay.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Changes one variable."""
        dtype = variable.dtype
        index = self._index_dict[self._var_key(variable)]
        learning_rate = tf.cast(self.learning_rate, dtype)
        number = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        if self.weight_decay is not None and self._use_weight_decay(variable):
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle,
                alpha=learning_rate * tf.cast(self.weight_decay, dtype),
                delta=variable,
            )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=beta_1**number,
            beta2_power=beta_2**number,
            lr=learning_rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=gradient,
        )

    def _apply_weight_decay(self, variables):
        pass  # in update_step


class FlooredRMSprop(tf_keras.optimizers.Optimizer):
    """RMSProp with momentum, as the code released with the paper has it.

        v <- rho v + (1 - rho) g^2
        u <- momentum u - learning_rate g / max(sqrt(v), floor)
        w <- w + u

    Keras' own adds its epsilon to the root; here the root has a floor.
    """

    def __init__(
        self,
        learning_rate: float | schedules.LearningRateSchedule,
        *,
        rho: float = 0.95,
        floor: float = 1e-2,
        momentum: float | schedules.LearningRateSchedule = 0.0,
        name: str = "floored_rmsprop",
        **kwargs: Any,
    ):
        """Makes the optimizer.

        Args:
          learning_rate: a number, or one by step.
          rho: decay of the mean squared gradient.
          floor: lowest root mean squared gradient that is divided by.
          momentum: a number, or one by step.
          name: of the optimizer.
          **kwargs: as for every `tf_keras` optimizer.
        """
        super().__init__(name=name, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self._rho = rho
        self._floor = floor
        self._momentum = momentum

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes the mean squares and the updates, once."""
        super().build(var_list)
        if getattr(self, "_mean_squares", None) is None:
            # All of one kind and then all of the other, as in the checkpoints of earlier versions.
            self._mean_squares = []
            self._updates = []
            for variable in var_list:
                mean_square = self.add_variable_from_reference(variable, "mean_square")
                self._mean_squares.append(mean_square)
            for variable in var_list:
                self._updates.append(self.add_variable_from_reference(variable, "update"))

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Changes one variable."""
        index = self._index_dict[self._var_key(variable)]
        mean_square = self._mean_squares[index]
        update = self._updates[index]
        momentum = self._momentum
        if callable(momentum):
            momentum = momentum(self.iterations)
        mean_square.assign(self._rho * mean_square + (1 - self._rho) * tf.square(gradient))
        root = tf.maximum(tf.sqrt(mean_square), self._floor)
        step = tf.cast(self.learning_rate, variable.dtype) * gradient / root
        update.assign(tf.cast(momentum, variable.dtype) * update - step)
        variable.assign_add(update)

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "rho": self._rho,
            "floor": self._floor,
            "momentum": self._serialize_hyperparameter(self._momentum),
        }


def make_schedule(config: Config, num_steps: int) -> schedules.LearningRateSchedule:
    """Learning rate by step: linear warm-up, then constant or a cosine to 0; or exponential."""
    if config.schedule == "exponential":
        return FlooredDecay(
            config.learning_rate, config.learning_rate_decay, config.min_learning_rate
        )
    # A cosine that falls to all of its start is the constant schedule, with the same warm-up.
    lowest = 0.0
    if config.schedule == "constant":
        lowest = 1.0
    return schedules.CosineDecay(
        initial_learning_rate=config.learning_rate / (config.warmup_steps + 1),
        warmup_target=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(1, num_steps - config.warmup_steps),
        alpha=lowest,
    )


def _all_but_kernels(flow):
    """The trained variables that do not decay: what is no kernel of an m, of whatever rank."""
    kernels = set()
    for layer in layers(flow):
        if isinstance(layer, AdditiveCoupling):
            for variable in layer.trainable_variables:
                if variable.shape.rank in (2, 4):  # of matrix products, and of convolutions
                    kernels.add(id(variable))
    return [variable for variable in flow.trainable_variables if id(variable) not in kernels]


def make_optimizer(
    config: Config, flow: tfd.TransformedDistribution, steps_per_epoch: int
) -> tf_keras.optimizers.Optimizer:
    """The optimizer with all its variables made, so that a checkpoint can be read into it."""
    schedule = make_schedule(config, steps_per_epoch * config.epochs)
    common: dict[str, Any] = {
        "weight_decay": config.weight_decay or None,
        "global_clipnorm": config.gradient_clip_norm or None,
    }
    if config.optimizer == "adam":
        optimizer = FusedAdam(
            schedule, beta_1=config.beta_1, beta_2=config.beta_2, epsilon=config.epsilon, **common
        )
    else:
        # With momentum from the first step, a step function of one piece.
        first_step = config.momentum_start_epoch * steps_per_epoch
        momentum = schedules.PiecewiseConstantDecay([first_step - 1], [0.0, config.momentum])
        optimizer = FlooredRMSprop(
            schedule, rho=config.beta_2, floor=config.epsilon, momentum=momentum, **common
        )
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(_all_but_kernels(flow))
    optimizer.build(flow.trainable_variables)
    return optimizer
