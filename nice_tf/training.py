"""Training: the Keras model around a flow, the optimizer, and the run from settings to results."""

import os
import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from nice_tf import data as data_lib
from nice_tf import evaluation, plots
from nice_tf.analysis import denoise
from nice_tf.callbacks import NaNGuard, Recorder, SamplePictures
from nice_tf.checkpoints import RunState, restore_best, restore_last
from nice_tf.config import Config
from nice_tf.flow import build_flow, initialize_from_data, sample
from nice_tf.metrics import bits_per_dim
from nice_tf.preprocessing import to_data_units, to_density_units
from nice_tf.seeds import stateless_seed
from nice_tf.workdir import Workdir

tfd = tfp.distributions

# On integer data without noise the likelihood is unbounded; this bound on 1/s keeps it finite.
MIN_INVERSE_SCALE_WITHOUT_NOISE = 1e-6
NUM_INITIALIZATION_EXAMPLES = 10_000


class FlowModel(tf_keras.Model):
    """A flow with what Keras needs to fit it.

    Training writes `flow`; everything that is reported reads `evaluation_flow`, which has a full-precision conditioner
    and the averaged weights when averaging is on.
    """

    def __init__(
        self,
        flow: tfd.TransformedDistribution,
        evaluation_flow: tfd.TransformedDistribution,
        *,
        levels: int | None,
        dequantization: str = "uniform",
        ema_decay: float = 0.0,
        seed: int = 0,
    ):
        """Makes the model.

        Args:
          flow: the density to train.
          evaluation_flow: the same architecture with variables of its own; they are overwritten.
          levels: number of integer levels of the data; `None` for continuous data.
          dequantization: as `Config.dequantization`.
          ema_decay: as `Config.ema_decay`.
          seed: of the noise.
        """
        super().__init__()
        self.flow = flow
        self.evaluation_flow = evaluation_flow
        self._levels = levels
        self._dequantization = dequantization
        self._ema_decay = ema_decay
        self._seed = seed
        self._means = {"log_prob": tf_keras.metrics.Mean("log_prob")}
        if levels is not None:
            self._means["bits_per_dim"] = tf_keras.metrics.Mean("bits_per_dim")
        self._copy_to_evaluation_flow()

    @property
    def metrics(self):
        """The metrics Keras resets at the start of each epoch and each validation."""
        return list(self._means.values())

    def density_units(self, values: tf.Tensor, purpose: str, *counters) -> tf.Tensor:
        """Data values to x, with noise of its own for this purpose and these counters."""
        noise_seed = stateless_seed(self._seed, purpose, *counters)
        return to_density_units(values, self._levels, self._dequantization, noise_seed, dtype=self.flow.dtype)

    def initialize_from_data(self, values: np.ndarray) -> None:
        """Sets mean and scales from training data; see `nice_tf.initialize_from_data`."""
        initialize_from_data(self.flow, self.density_units(values, "initialization"))
        self._copy_to_evaluation_flow()

    def train_step(self, values):
        """One step of the optimizer on a batch of data values."""
        x = self.density_units(values, "train_noise", self.optimizer.iterations)
        variables = self.flow.trainable_variables
        with tf.GradientTape() as tape:
            log_prob = self.flow.log_prob(x)
            loss = -tf.reduce_mean(log_prob)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        if self._ema_decay:
            for average, variable in zip(self.evaluation_flow.trainable_variables, variables, strict=True):
                average.assign_sub((1 - self._ema_decay) * (average - variable))
        return self._updated_means(log_prob)

    def test_step(self, numbered_values):
        """Adds one batch of validation, with noise of its own at each visit."""
        number, values = numbered_values
        x = self.density_units(values, "validation_noise", self.optimizer.iterations, number)
        return self._updated_means(self.evaluation_flow.log_prob(x))

    def evaluate(self, *args, **kwargs):
        """As `tf_keras.Model.evaluate`, on the newest weights."""
        if not self._ema_decay:
            self._copy_to_evaluation_flow()
        return super().evaluate(*args, **kwargs)

    def _copy_to_evaluation_flow(self):
        for target, variable in zip(self.evaluation_flow.variables, self.flow.variables, strict=True):
            target.assign(variable)

    def _updated_means(self, log_prob):
        self._means["log_prob"].update_state(log_prob)
        if self._levels is not None:
            event_size = self.flow.event_shape.num_elements()
            self._means["bits_per_dim"].update_state(bits_per_dim(log_prob, event_size, self._levels))
        return {name: mean.result() for name, mean in self._means.items()}


def make_flow(config: Config, event_shape: list[int], *, for_training: bool = False) -> tfd.TransformedDistribution:
    """The flow that the settings describe; its m computes in bfloat16 only for training, and only if asked."""
    in_bfloat16 = for_training and config.precision == "bfloat16"
    without_noise = config.dequantization == "none"
    return build_flow(
        event_shape,
        num_couplings=config.num_couplings,
        hidden_units=config.hidden_units,
        activation=config.activation,
        partition=config.partition,
        mixing=config.mixing,
        prior=config.prior,
        scaling=config.scaling,
        min_inverse_scale=MIN_INVERSE_SCALE_WITHOUT_NOISE if without_noise else 0.0,
        zero_last_layer=config.zero_last_layer,
        allow_incomplete_mixing=config.allow_incomplete_mixing,
        dtype=tf.float64 if config.precision == "float64" else tf.float32,
        compute_dtype=tf.bfloat16 if in_bfloat16 else None,
        seed=config.seed,
    )


def make_model(config: Config, data: data_lib.Data) -> FlowModel:
    """The model that the settings describe, initialised from the training data and compiled."""
    model = FlowModel(
        make_flow(config, data.event_shape, for_training=True),
        make_flow(config, data.event_shape),
        levels=data.levels,
        dequantization=config.dequantization,
        ema_decay=config.ema_decay,
        seed=config.seed,
    )
    if config.data_init:
        model.initialize_from_data(data.train[:NUM_INITIALIZATION_EXAMPLES])
    steps = len(data.train) // config.batch_size * config.epochs
    model.compile(make_optimizer(config, model.flow, steps), jit_compile=config.jit_compile)
    return model


def make_schedule(config: Config, num_steps: int) -> tf_keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate by step: linear warm-up, then constant or a cosine to 0 at step `num_steps`."""
    # A cosine that falls to all of its start is the constant schedule, with the same warm-up.
    return tf_keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.learning_rate / (config.warmup_steps + 1),
        warmup_target=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(1, num_steps - config.warmup_steps),
        alpha=1.0 if config.schedule == "constant" else 0.0,
    )


def make_optimizer(config: Config, flow: tfd.TransformedDistribution, num_steps: int) -> tf_keras.optimizers.Optimizer:
    """Adam with all its variables made, so that a checkpoint can be read into it."""
    optimizer = tf_keras.optimizers.Adam(
        make_schedule(config, num_steps),
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay or None,
        global_clipnorm=config.gradient_clip_norm or None,
    )
    if config.weight_decay:
        optimizer.exclude_from_weight_decay([v for v in flow.trainable_variables if v.shape.rank != 2])
    optimizer.build(flow.trainable_variables)
    return optimizer


def default_workdir(config: Config) -> str:
    """`runs/` and the name of the data set."""
    return os.path.join("runs", os.path.splitext(os.path.basename(config.dataset))[0])


def train_and_evaluate(config: Config, workdir: str | os.PathLike) -> dict[str, Any]:
    """Trains, or continues, the run in `workdir`, then evaluates it on test and draws samples.

    Args:
      config: the settings.
      workdir: folder of the run; see `Workdir` for what it then holds.

    Returns:
      The content of `evaluation.json`.

    Raises:
      UserError: settings, data or folder break a rule, or the training diverged.
    """
    if config.deterministic:
        tf_keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
    data = data_lib.load(config)
    run = Workdir(workdir)
    model = make_model(config, data)
    run.claim(config, data.description())
    state = RunState()
    restore_last(run, model, state)
    _announce(config, data, model, run, state)
    if not state.is_finished(config):
        fit(model, config, data, run, state)
    return finish(config, data, run)


def fit(model: FlowModel, config: Config, data: data_lib.Data, run: Workdir, state: RunState) -> None:
    """Trains from the state's epoch on, leaving checkpoints, metrics, TensorBoard logs and sample pictures."""
    steps_per_epoch = len(data.train) // config.batch_size
    epochs_done = int(state.epoch)
    model.fit(
        data_lib.training_batches(
            data.train,
            config.batch_size,
            seed=config.seed,
            first_step=epochs_done * steps_per_epoch,
            last_step=config.epochs * steps_per_epoch,
        ),
        initial_epoch=epochs_done,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=data_lib.evaluation_batches(data.validation, config.batch_size),
        verbose=1 if sys.stdout.isatty() else 2,  # a moving bar on a terminal, one line an epoch in a file
        callbacks=[
            NaNGuard(run),
            Recorder(run, state, config),
            tf_keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False),
            SamplePictures(run, data.levels, config),
        ],
    )


def finish(config: Config, data: data_lib.Data, run: Workdir) -> dict[str, Any]:
    """Test log-likelihood and samples of the best checkpoint; a finished evaluation is read, not made again."""
    flow, epoch = restore_best(run, make_flow(config, data.event_shape))
    result = evaluation.read(run, epoch=epoch, num_draws=config.num_draws)
    if result is None:
        result = evaluation.evaluate(
            flow, data.test, levels=data.levels, config=config, split="test", dataset=data.name, epoch=epoch
        )
        usual = evaluation.calibration(flow, data.validation, levels=data.levels, config=config)
        run.write_array(run.calibration, usual)
        run.write_json(run.evaluation, result)
    written = _write_samples(flow, data, config, run)
    print(f"\n{evaluation.as_text(result)}\n\nwritten to {run.path}:")
    for path in (run.evaluation, run.metrics, *written, run.best, run.tensorboard):
        print(f"  {path.relative_to(run.path)}")
    return result


def _write_samples(flow, data, config, run):
    """Pictures as `samples.png` and `samples_denoised.png`, other data as `samples.npy`; returns the paths."""
    x = sample(flow, 100, seed=stateless_seed(config.seed, "samples"), temperature=config.temperature)
    if not plots.is_image(data.event_shape):
        path = run.path / "samples.npy"
        run.write_array(path, to_data_units(x, data.levels).numpy())
        return [path]
    written = []
    for name, shown in (("samples.png", x), ("samples_denoised.png", denoise(flow, x))):
        written.append(run.path / name)
        plots.write_png(written[-1], plots.image_grid(to_data_units(shown, data.levels).numpy(), levels=data.levels))
    return written


def load_flow(workdir: str | os.PathLike) -> tfd.TransformedDistribution:
    """The trained density of a run, with the weights of its best epoch.

    Its x is on [0, 1] for integer data: `nice_tf.dequantize` makes it from integers.

    Args:
      workdir: folder of a run of `train_and_evaluate`.

    Returns:
      A `tfd.TransformedDistribution` over the data's event shape.

    Raises:
      UserError: no run there, or a damaged one.
    """
    run = Workdir(workdir)
    config, data = run.read_config()
    return restore_best(run, make_flow(config, data["event_shape"]))[0]


def _announce(config, data, model, run, state):
    gpus = tf.config.list_physical_devices("GPU")
    devices = ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus)
    parameters = sum(int(np.prod(variable.shape)) for variable in model.flow.trainable_variables)
    scale = f"{data.levels} levels" if data.levels else "continuous values"
    print(
        f"data       {data.name}: {len(data.train)} train, {len(data.validation)} validation, {len(data.test)} test "
        f"examples of shape {data.event_shape}, {scale}\n"
        f"model      {config.num_couplings} additive couplings, {config.prior} prior, {parameters:,} parameters\n"
        f"device     {devices or f'CPU, {os.cpu_count()} cores'}\n"
        f"precision  {config.precision}\n"
        f"workdir    {run.path}" + (f", continued after epoch {int(state.epoch)}" if int(state.epoch) else "")
    )
    if data.levels and config.dequantization == "none":
        print(
            "warning    dequantization=none: on integer data the likelihood is unbounded, its figures mean nothing; "
            f"1/s is kept above {MIN_INVERSE_SCALE_WITHOUT_NOISE}"
        )
    print(flush=True)
