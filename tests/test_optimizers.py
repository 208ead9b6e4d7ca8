import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from flows import random_points

import nice_tf
from nice_tf.training import optimizers


def test_floored_rmsprop_against_its_equations():
    momenta = [0.0, 0.0, 0.5, 0.5]
    momentum = tf_keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.0, 0.5])
    rates = optimizers.FlooredDecay(0.1, 1.5, 0.04)
    optimizer = optimizers.FlooredRMSprop(rates, rho=0.8, floor=0.3, momentum=momentum)
    variable = tf.Variable([1.0, -2.0, 3.0])
    w, v, u = variable.numpy(), np.zeros(3), np.zeros(3)
    floored = 0
    for step, factor in enumerate(momenta):
        g = np.array([0.01, -5.0, 0.4]) * (step + 1)
        v = 0.8 * v + 0.2 * g**2
        floored += np.sum(np.sqrt(v) < 0.3)
        u = factor * u - max(0.1 / 1.5**step, 0.04) * g / np.maximum(np.sqrt(v), 0.3)
        w = w + u
        optimizer.apply_gradients([(tf.constant(g, tf.float32), variable)])
        np.testing.assert_allclose(variable, w, rtol=1e-5)
    assert 0 < floored < 12


def test_settings_of_the_released_code():
    config = nice_tf.Config(
        optimizer="rmsprop",
        beta_2=0.95,
        epsilon=1e-2,
        momentum=0.5,
        momentum_start_epoch=5,
        schedule="exponential",
        learning_rate=1e-3,
        learning_rate_decay=1.0005,
        min_learning_rate=1e-4,
        epochs=10,
    )
    flow = nice_tf.build_flow([4], hidden_units=(4,))
    optimizer = optimizers.make_optimizer(config, flow, 100)
    assert isinstance(optimizer, optimizers.FlooredRMSprop)
    assert [float(optimizer._momentum(step)) for step in (0, 499, 500, 999)] == [0.0, 0.0, 0.5, 0.5]
    schedule = optimizers.make_schedule(config, 1000)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 1, 1000, 10_000)],
        [1e-3, 1e-3 / 1.0005, 1e-3 / 1.0005**1000, 1e-4],
        rtol=1e-4,
    )
    assert len(optimizer.variables) > 2 * len(flow.trainable_variables), (
        "made before a checkpoint is read into it"
    )


@pytest.mark.slow
def test_training_with_rmsprop_resumes(tmp_path):
    """The optimizer's own variables are in the checkpoint: two epochs, then a third, as three at
    once.
    """
    settings = {
        "dataset": "digits",
        "hidden_units": (16,),
        "num_couplings": 3,
        "batch_size": 100,
        "num_draws": 2,
        "epochs": 3,
        "optimizer": "rmsprop",
        "epsilon": 1e-2,
        "momentum": 0.5,
        "momentum_start_epoch": 1,
        "beta_2": 0.95,
    }
    config = nice_tf.Config(**settings)
    whole = nice_tf.train_and_evaluate(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        write = nice_tf.runs.workdir.Workdir.write_metrics

        def stop_after_two(self, rows):
            write(self, rows)
            if len(rows) == 3:
                raise KeyboardInterrupt

        patch.setattr("nice_tf.runs.workdir.Workdir.write_metrics", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            nice_tf.train_and_evaluate(config, tmp_path / "parts")
    parts = nice_tf.train_and_evaluate(config, tmp_path / "parts")
    np.testing.assert_allclose(parts["log_prob"], whole["log_prob"], atol=1e-3)
    assert whole["log_prob"] > 0


def test_exponential_schedule_has_no_warmup():
    with pytest.raises(
        nice_tf.UserError, match="schedule exponential has no warm-up, got warmup_steps 3"
    ):
        nice_tf.Config(schedule="exponential", warmup_steps=3)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fused_adam_is_keras_adam(jit_compile):
    settings = {
        "weight_decay": 3.0,
        "gradient_clip_norm": 0.7,
        "epsilon": 1e-3,
        "beta_1": 0.8,
        "warmup_steps": 2,
    }
    config = nice_tf.Config(**settings, epochs=3)
    flows = [nice_tf.build_flow([6], hidden_units=(5,), zero_last_layer=False) for _ in range(2)]
    fused = optimizers.make_optimizer(config, flows[0], 2)
    reference = tf_keras.optimizers.Adam(
        optimizers.make_schedule(config, 6),
        beta_1=0.8,
        beta_2=0.99,
        epsilon=1e-3,
        weight_decay=3.0,
        global_clipnorm=0.7,
    )
    reference.exclude_from_weight_decay(
        [v for v in flows[1].trainable_variables if v.shape.rank != 2]
    )
    x = random_points(50, 6, dtype=np.float32)
    for optimizer, flow in zip((fused, reference), flows, strict=True):

        @tf.function(jit_compile=jit_compile)
        def step(flow=flow, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(flow.log_prob(x))
            gradients = tape.gradient(loss, flow.trainable_variables)
            optimizer.apply_gradients(zip(gradients, flow.trainable_variables, strict=True))

        optimizer.build(flow.trainable_variables)
        start = [v.numpy() for v in flow.trainable_variables]
        for _ in range(6):
            step()
        assert all(
            np.max(np.abs(v - old)) > 1e-3
            for v, old in zip(flow.trainable_variables, start, strict=True)
        )
    assert [v.name for v in fused.variables] == [v.name for v in reference.variables], (
        "checkpoints fit both"
    )
    for ours, theirs in zip(
        [*fused.variables, *flows[0].trainable_variables],
        [*reference.variables, *flows[1].trainable_variables],
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
