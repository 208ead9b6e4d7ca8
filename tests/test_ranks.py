"""The log-density of ranks: what it is, and what a server of a flow says of it."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import fresh
from cpp_loader import LoadedModel
from flows import random_points, randomize

import nice_tf
from nice_tf.flows.marginals import behind_marginals, has_marginals
from nice_tf.flows.ranks import log_det_of_marginals
from nice_tf.serving import lite

tfb = tfp.bijectors
tfd = tfp.distributions

SIZE = 3


def data(number=400, dtype=np.float64):
    """A heavy tail, a bell, and a column that is zero for half of the rows."""
    generator = np.random.default_rng(0)
    a = generator.lognormal(0.0, 1.5, number)
    b = generator.normal(size=number) + 0.3 * np.log(a)
    c = np.where(generator.uniform(size=number) < 0.5, 0.0, generator.exponential(size=number))
    c += generator.uniform(-5e-4, 5e-4, number)
    return np.stack([a, b, c], axis=-1).astype(dtype)


def made(x, *, marginals="trained", dtype=tf.float64, **kwargs):
    """A flow with marginals of x, random weights in m, and random offsets of trained masses."""
    kwargs = {"prior": "gaussian", "hidden_units": (7, 6), "activation": "tanh", **kwargs}
    flow = nice_tf.build_flow([SIZE], num_couplings=3, marginals=marginals, dtype=dtype, **kwargs)
    context = None
    if "context_size" in kwargs:
        context = random_points(len(x), kwargs["context_size"], seed=7, dtype=x.dtype.type)
    nice_tf.initialize_from_data(flow, x, context=context)
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.AdditiveCoupling):
            randomize(layer.conditioner)
        if isinstance(layer, nice_tf.QuantileTransform) and marginals == "trained":
            noise = np.random.default_rng(3).normal(size=layer.parameters["offsets"].shape)
            layer.parameters["offsets"].assign(noise.astype(x.dtype))
    return flow


@pytest.fixture(scope="module")
def x():
    return data()


@pytest.fixture(scope="module")
def flow(x):
    return made(x)


def rows_of(x):
    """Some of the rows, one far above the range, and one below."""
    rows = np.concatenate([x[:20], x[:2]])
    rows[-2:, 0] = [5e4, -7.0]
    return tf.constant(rows)


def marginals_of(flow):
    (layer,) = [one for one in nice_tf.layers(flow) if isinstance(one, nice_tf.QuantileTransform)]
    return layer


def slopes(layer, x):
    """Log dz_d / dx_d, `[B, D]`, by automatic differentiation."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = layer.forward(x)
    return np.log(tf.linalg.diag_part(tape.batch_jacobian(z, x)))


def test_it_is_log_p_less_what_the_marginals_stretch(x, flow):
    rows = rows_of(x)
    expected = flow.log_prob(fresh(rows)) - slopes(marginals_of(flow), rows).sum(axis=1)
    found = nice_tf.rank_log_prob(flow, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.abs(found - flow.log_prob(rows)).min() > 0.01


def test_it_is_the_density_of_z(x, flow):
    rows = rows_of(x)
    front, of_z = behind_marginals(flow)
    np.testing.assert_allclose(
        nice_tf.rank_log_prob(flow, rows), of_z.log_prob(front.forward(fresh(rows))), rtol=1e-9
    )


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_frozen_in_a_graph_in_each_dtype(x, flow, dtype):
    rows = rows_of(x)
    expected = nice_tf.rank_log_prob(flow, rows)
    other = made(x.astype(dtype.as_numpy_dtype), dtype=dtype)
    frozen = nice_tf.freeze(other)
    found = tf.function(nice_tf.rank_log_prob)(frozen, tf.cast(rows, dtype))
    assert found.dtype == dtype
    tolerance = {tf.float32: 1e-2, tf.float64: 1e-9}[dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_units_change_log_p_alone():
    """With marginals fitted anew to the column in other units."""
    x = data()
    other = x * [1000.0, 1.0, 1.0]
    flows = [made(x), made(other)]
    before = rows_of(x)
    after = before * [1000.0, 1.0, 1.0]
    np.testing.assert_allclose(
        flows[1].log_prob(after), flows[0].log_prob(before) - np.log(1000), rtol=1e-8
    )
    np.testing.assert_allclose(
        nice_tf.rank_log_prob(flows[1], after),
        nice_tf.rank_log_prob(flows[0], before),
        rtol=1e-8,
    )


def test_a_bent_column_hardly_changes_ranks():
    """Within the range of training, and by what the fit makes of the other values."""
    x = np.random.default_rng(0).lognormal(0.0, 1.5, [2000, SIZE])
    other = np.log(x)
    flows = [made(x, marginals="quantile"), made(other, marginals="quantile")]
    ranks = nice_tf.rank_log_prob(flows[0], x).numpy()
    bent = nice_tf.rank_log_prob(flows[1], other).numpy()
    assert np.sqrt(np.mean((ranks - bent) ** 2)) < 0.2 * np.std(ranks)
    density = flows[0].log_prob(x).numpy()
    bent_density = flows[1].log_prob(other).numpy()
    assert np.sqrt(np.mean((density - bent_density) ** 2)) > 0.8 * np.std(density)


def test_of_a_context(x):
    flow = made(x, context_size=2)
    rows = rows_of(x)
    context = random_points(len(rows), 2, seed=5)
    expected = flow.log_prob(rows, context=context) - slopes(marginals_of(flow), rows).sum(axis=1)
    found = nice_tf.rank_log_prob(flow, fresh(rows), context=context)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    held = nice_tf.rank_log_prob(nice_tf.condition(flow, context), fresh(rows))
    np.testing.assert_allclose(held, expected, rtol=1e-9)
    assert not np.allclose(nice_tf.rank_log_prob(flow, rows, context=context + 1), expected)


def test_examples_of_any_shape():
    x = data(300).reshape(100, 3, 3)[..., np.newaxis]
    flow = nice_tf.build_flow(
        [3, 3, 1], hidden_units=(5,), marginals="quantile", num_couplings=3, dtype=tf.float64
    )
    nice_tf.initialize_from_data(flow, x)
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.AdditiveCoupling):
            randomize(layer.conditioner)
    found = nice_tf.rank_log_prob(flow, x.reshape(50, 2, 3, 3, 1))
    flat = tf.constant(x.reshape(100, 9))
    expected = flow.log_prob(x) - slopes(marginals_of(flow), flat).sum(axis=1)
    np.testing.assert_allclose(tf.reshape(found, [100]), expected, rtol=1e-9)


def test_flows_without_marginals_in_front(x):
    plain = nice_tf.build_flow([SIZE], hidden_units=(4,))
    layer = nice_tf.QuantileTransform(SIZE, dtype=tf.float64)
    layer.fit(x)
    zeros = tf.zeros(SIZE, tf.float64)
    prior = tfd.Independent(tfd.Normal(zeros, zeros + 1), 1)
    behind_another = nice_tf.flow_from_layers([tfb.Shift(zeros + 1), layer], prior, SIZE)
    foreign = tfd.TransformedDistribution(prior, tfb.Exp())
    for flow in (plain, behind_another, foreign):
        assert not has_marginals(flow)
        assert log_det_of_marginals(flow, tf.cast(x, flow.dtype)) is None
        with pytest.raises(nice_tf.UserError, match=r"has no marginals: .*build_flow\(marginals"):
            nice_tf.rank_log_prob(flow, x.astype(flow.dtype.as_numpy_dtype))
    # A chain of TFP's own, with the layer turned round.
    own = tfd.TransformedDistribution(prior, tfb.Invert(layer))
    np.testing.assert_allclose(
        nice_tf.rank_log_prob(own, fresh(x)), prior.log_prob(layer.forward(x)), rtol=1e-9
    )


# What a server says of it


COLUMNS = ("a", "b", "c")


@pytest.fixture(scope="module")
def small(x):
    return made(x.astype(np.float32), dtype=tf.float32, prior="logistic")


@pytest.fixture(scope="module")
def validation(small):
    return small.sample(150, seed=[0, 1]).numpy()


@pytest.fixture(scope="module")
def server(small, validation):
    usual = nice_tf.rank_log_prob(small, validation).numpy()
    return make_server(small, validation_rank_log_probs=usual)


def answers(signature, x):
    return {name: value.numpy() for name, value in signature(tf.constant(x)).items()}


def test_signatures_give_what_the_function_does(small, validation, server):
    x = validation[:40].copy()
    x[0, 0] = 1e4
    scores = answers(server.log_prob, x)
    ranks = nice_tf.rank_log_prob(small, x).numpy()
    np.testing.assert_allclose(scores["rank_log_prob"], ranks, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores["log_prob"], small.log_prob(x), rtol=1e-4, atol=1e-4)
    usual = np.sort(nice_tf.rank_log_prob(small, validation).numpy())
    middle = scores["rank_log_prob"] + 1e-3  # between two of them: neither rounding decides
    share = np.searchsorted(usual, middle) / len(usual)
    assert np.abs(scores["rank_tail_probability"] - share).max() < 0.03
    assert np.ptp(scores["rank_tail_probability"]) > 0.5


def test_tail_probability_counts_lower_ones(small, validation):
    x = tf.constant(validation[:30])
    ranks = np.float32(nice_tf.freeze(small).log_prob(x) - log_det_of_marginals(small, x))
    usual = np.median(ranks) + np.array([-1e6, 1e6, -2e6])
    schema_server = make_server(small, validation_rank_log_probs=usual)
    found = schema_server.log_prob(x)
    np.testing.assert_allclose(found["rank_tail_probability"], np.float32(2 / 3))
    usual = np.array([np.median(ranks)])
    found = make_server(small, validation_rank_log_probs=usual).log_prob(x)
    expected = found["rank_log_prob"].numpy() > usual[0].astype(np.float32)
    np.testing.assert_array_equal(found["rank_tail_probability"], expected)
    assert 0 < expected.mean() < 1


def make_server(flow, **kwargs):
    from nice_tf.data.schema import Column, Schema

    columns = tuple(Column(name, 0.0, -5.0, 5.0) for name in COLUMNS)
    kwargs = {"schema": Schema(columns), "levels": None, **kwargs}
    return nice_tf.FlowServer(flow, validation_log_probs=np.array([-3.0, -2.0]), **kwargs)


def test_contributions_are_what_ranks_would_gain(small, validation, server):
    x = validation[:30]
    found = answers(server.explain, x)
    usual = marginals_of(small).inverse(tf.zeros([SIZE])).numpy()
    before = nice_tf.rank_log_prob(small, x)
    for column in range(SIZE):
        replaced = x.copy()
        replaced[:, column] = usual[column]
        gain = nice_tf.rank_log_prob(small, replaced) - before
        np.testing.assert_allclose(
            found["rank_contribution"][:, column], gain, rtol=1e-3, atol=1e-3
        )
    assert np.abs(found["rank_contribution"] - found["contribution"]).max() > 0.5


def test_a_server_without_them_has_none(small, validation):
    x = tf.constant(validation[:3])
    server = make_server(small)
    assert sorted(server.log_prob(x)) == ["log_prob", "tail_probability"]
    assert sorted(server.explain(x)) == ["contribution", "log_prob"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"validation_rank_log_probs": np.array([])}, "validation_rank_log_probs must be numbers"),
        ({"validation_rank_log_probs": np.array([1.0, np.nan])}, "1 of 2 validation_rank_log_prob"),
        ({"validation_rank_log_probs": np.ones(2), "schema": None}, "are for tables, with a sch"),
    ],
)
def test_what_a_server_refuses(small, kwargs, message):
    with pytest.raises(nice_tf.UserError, match=message):
        make_server(small, **kwargs)


def test_a_server_of_a_flow_without_marginals_refuses_them():
    flow = nice_tf.build_flow([SIZE], hidden_units=(4,))
    with pytest.raises(nice_tf.UserError, match="whose flow has marginals in front: leave them"):
        make_server(flow, validation_rank_log_probs=np.ones(2))


def test_single_examples_by_xla(small, validation):
    kwargs = {"validation_rank_log_probs": np.array([-3.0, -2.0])}
    x = tf.constant(validation[:1])
    found = make_server(small, compile_single=True, **kwargs).log_prob(x)
    expected = make_server(small, **kwargs).log_prob(x)
    assert list(found) == list(expected)
    np.testing.assert_allclose(found["rank_log_prob"], expected["rank_log_prob"], rtol=1e-4)


def test_an_export_of_an_own_flow_has_them_and_so_has_lite(small, validation, server, tmp_path):
    version = nice_tf.export_flow(
        small, tmp_path, validation=validation, schema=COLUMNS, format="tflite"
    )
    assert lite.largest_difference(version) < 0.1
    found = LoadedModel(version)("serving_default", x=validation)
    expected = answers(server.log_prob, validation)["rank_tail_probability"]
    np.testing.assert_allclose(found["rank_tail_probability"], expected, atol=0.03)
    card = (version / "MODEL_CARD.md").read_text()
    assert "`rank_log_prob` is the log-density of a row's quantile scores" in card
    assert "rank_contribution" not in card, "that is of explain"
