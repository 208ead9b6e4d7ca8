"""Values that come again and again in a continuous column: spread, drawn, filled."""

import collections

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import nice_tf
from nice_tf.data import dataset, units
from nice_tf.data.schema import Column, Schema, Spikes
from nice_tf.flows.conditional import draw_between
from nice_tf.flows.jumps import WithJumps
from nice_tf.runs.architecture import make_flow
from nice_tf.scoring.model import Model
from nice_tf.scoring.spikes import most_probable, nodes_of
from nice_tf.scoring.trying import with_best_values

NUMBER = 1500
SHARES = {"queue": 0.2, "app": 0.8}  # of zeros


def rows(number, seed):
    """Waiting times, often 0 for one kind of customers and seldom for the other."""
    generator = np.random.default_rng(seed)
    is_app = generator.random(number) < 0.5
    kind = np.where(is_app, "app", "queue")
    share = np.where(is_app, SHARES["app"], SHARES["queue"])
    wait = np.where(generator.random(number) < share, 0.0, generator.gamma(4.0, 1.0, number))
    mood = generator.normal(size=number) - 0.3 * wait
    return {"kind": kind, "wait": wait, "mood": mood}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Long enough for couplings to sharpen what is a point."""
    path = tmp_path_factory.mktemp("spikes")
    pq.write_table(pa.table(rows(NUMBER, 0)), path / "rows.parquet")
    config = nice_tf.Config(
        dataset=str(path / "rows.parquet"),
        marginals="quantile",
        whitening="standardize_triangular",
        prior="logistic_mixture",
        prior_components=8,
        num_couplings=4,
        hidden_units=(24,),
        epochs=40,
        batch_size=50,
        learning_rate=1e-2,
        num_draws=4,
        precision="float32",
        output_scale="one",
        ema_decay=0.98,
    )
    result = nice_tf.train_and_evaluate(config, path / "run")
    return path / "run", config, result


def test_couplings_gain_nothing_inside_a_spike(run):
    """The columns tell this much of each other, by the distribution that they were drawn from."""
    _, _, result = run
    gain = result["marginals"]["gain"]
    assert 0.2 < gain < 1.0, "narrower zeros add a nat or more"


@pytest.mark.slow
def test_given_rows_are_zero_as_often_as_free_ones(run, tmp_path):
    folder, _, _ = run
    kind = "queue"
    nice_tf.sample_file(folder, tmp_path / "free.parquet", num_samples=6000)
    free = pq.read_table(tmp_path / "free.parquet")
    wait = free["wait"].to_numpy()[free["kind"].to_numpy() == kind]
    share = np.mean(wait == 0)
    assert abs(share - SHARES[kind]) < 0.12
    nice_tf.sample_file(folder, tmp_path / "given.parquet", num_samples=2000, given={"kind": kind})
    drawn = pq.read_table(tmp_path / "given.parquet")["wait"].to_numpy()
    assert abs(np.mean(drawn == 0) - share) < 0.04
    assert drawn.min() == 0 and not np.any((drawn > 0) & (drawn < 1e-3))


def with_gaps(path):
    columns = rows(80, 5)
    gaps = pa.table({**columns, "wait": pa.nulls(80, pa.float64())})
    pq.write_table(gaps, path)
    return columns["kind"]


@pytest.mark.slow
def test_gaps_are_drawn_as_often_on_a_spike_and_filled_where_that_is_more_probable(run, tmp_path):
    """What is more probable is told by the draws."""
    folder, _, _ = run
    kind = with_gaps(tmp_path / "gaps.parquet")
    nice_tf.fill_file(folder, tmp_path / "gaps.parquet", tmp_path / "filled.parquet")
    filled = pq.read_table(tmp_path / "filled.parquet")["wait"].to_numpy()
    nice_tf.fill_file(folder, tmp_path / "gaps.parquet", tmp_path / "drawn.parquet", num_draws=40)
    drawn = pq.read_table(tmp_path / "drawn.parquet")["wait"].to_numpy().reshape(80, 40)
    for name, share in SHARES.items():
        assert abs(np.mean(drawn[kind == name] == 0) - share) < 0.15
    share = np.mean(drawn == 0, axis=1)
    is_clear = np.abs(share - 0.5) > 0.25
    assert np.sum(is_clear & (share > 0.5)) > 15 and np.sum(is_clear & (share < 0.5)) > 15
    np.testing.assert_array_equal((filled == 0)[is_clear], (share > 0.5)[is_clear])
    assert filled[filled > 0].min() > 0.1


def test_an_export_fills_as_the_run_does(run, tmp_path):
    folder, _, _ = run
    version = nice_tf.export_saved_model(folder, tmp_path / "export")
    x = np.array([[0.0, np.nan, 0.3], [1.0, np.nan, -1.5]], np.float32)
    found = Model.load(folder).fill(x)
    np.testing.assert_allclose(Model.load(version).fill(x), found, atol=1e-3)
    assert sorted(found[:, 1] == 0) == [False, True]


def test_the_probability_of_a_spike_is_an_integral():
    """Of a column of 30 % zeros, 25 % fives and an exponential rest; the other tells nothing."""
    generator = np.random.default_rng(0)
    column = Column("a", 0.0, 0.0, 12.0, spikes=(0.0, 5.0), spike_width=1e-3)

    def log_prob_of(shares):
        def log_prob(x):
            a = x[:, 0]
            density = (1 - sum(shares)) * np.exp(-a) * (a > 0)
            for spike, share in zip(column.spikes, shares, strict=True):
                density = density + share * (np.abs(a - spike) < 5e-4) / 1e-3
            return np.log(density + 1e-300)

        return log_prob

    samples = generator.exponential(size=3000)
    nodes = nodes_of(column, samples)
    assert np.all(np.diff(nodes) > 0) and 0 < nodes[0] < 1e-3 and nodes[-1] == 12
    assert not np.any(np.abs(nodes - 5) <= 5e-4)
    values = np.zeros([2, 2])
    for shares, expected in (
        ((0.3, 0.25), 0.0),
        ((0.2, 0.35), 5.0),
        ((0.26, 0.25), 0.0),
        ((0.24, 0.25), np.nan),
    ):
        found, beside = most_probable(values, 0, column, nodes, log_prob_of(shares))
        np.testing.assert_array_equal(found, [expected, expected])
        assert beside[0] == nodes[nodes > 1e-3][0], "the least that is not written as 0"


def run_of_middle(path):
    """On a column with a spike in the middle of the others, whose share of it another one tells."""
    generator = np.random.default_rng(3)
    kind = np.where(generator.random(1000) < 0.5, "often", "seldom")
    share = np.where(kind == "often", 0.75, 0.15)
    size = np.where(generator.random(1000) < share, 0.0, generator.normal(size=1000))
    pq.write_table(pa.table({"kind": kind, "size": size}), path / "rows.parquet")
    config = nice_tf.Config(
        dataset=str(path / "rows.parquet"),
        marginals="quantile",
        num_couplings=2,
        hidden_units=(16,),
        epochs=12,
        batch_size=50,
        learning_rate=1e-2,
        num_draws=2,
        precision="float32",
        output_scale="one",
    )
    nice_tf.train_and_evaluate(config, path / "run")
    return path / "run"


def test_gaps_beside_a_spike_in_the_middle_are_not_filled_with_it(tmp_path):
    """The ascent ends on it, being in the middle; the integrals tell that it is less probable."""
    folder = run_of_middle(tmp_path)
    pq.write_table(
        pa.table({"kind": ["often", "seldom"] * 2, "size": [None, None, 0.0, 1.0]}),
        tmp_path / "gaps.parquet",
    )
    nice_tf.fill_file(folder, tmp_path / "gaps.parquet", tmp_path / "filled.parquet")
    filled = pq.read_table(tmp_path / "filled.parquet")["size"].to_numpy()
    assert filled[0] == 0 and 0 < np.abs(filled[1]) < 1.5
    np.testing.assert_array_equal(filled[2:], [0, 1])


def test_a_climb_does_not_go_back_to_a_spike():
    """Its density is high, whatever its probability: here a tenth."""
    column = Column("a", 0.0, -3.0, 3.0, spikes=(0.0,), spike_width=1e-3)
    schema = Schema((column, Column("b", 0.0, -3.0, 3.0), Column("c", 1.0, 0.0, 1.0)))
    nodes = nodes_of(column, np.random.default_rng(0).normal(1.0, 0.5, 2000))

    def log_prob(rows, numbers):
        a, b, c = rows.T
        beside = 0.9 * np.exp(-2 * (a - 1) ** 2) / (0.5 * np.sqrt(2 * np.pi))
        of_a = np.log(beside + 0.1 * (np.abs(a) < 5e-4) / 1e-3)
        return of_a - np.abs(b - 2) + c

    def climb(rows, known, numbers):
        return np.where(known, rows, [0.0, 2.0, 9.0])

    start = np.array([[0.0, 0.0, 0.0], [0.7, 0.0, 0.0]])
    found = with_best_values(
        start,
        np.zeros([2, 3], bool),
        schema,
        log_prob=log_prob,
        climb=climb,
        nodes=lambda: {0: nodes},
    )
    assert np.abs(found[0, 0] - 1) < 0.05
    np.testing.assert_array_equal(found[0, 1:], [2, 1])
    np.testing.assert_array_equal(found[1], [0.7, 0, 1])


SPIKES = Spikes(
    np.array([[0.0, 2.5], [np.nan, np.nan], [1e6, np.nan]]),
    np.array([[0.01, 0.01], [0, 0], [8.0, 0]]),
)


def test_only_spikes_are_spread():
    values = np.float32([[0.0, 0.0, 1.0], [2.5, 2.5, 0.0], [0.001, 1.0, 0.0]] * 2000)
    x = units.to_density_units(
        values, None, "uniform", tf.constant([1, 2]), steps=np.array([0.0, 1, 0]), spikes=SPIKES
    ).numpy()
    moved = (x - values).reshape(2000, 3, 3)
    for row in (0, 1):
        offsets = moved[:, row, 0]
        assert (
            np.abs(offsets).max() <= 0.005 + 1e-6 and np.abs(offsets.std() - 0.01 / 12**0.5) < 2e-4
        )
    assert not moved[:, 2, 0].any() and not moved[:, :, 2].any()
    assert moved[:, :, 1].min() < -0.45
    np.testing.assert_array_equal(
        units.widths_of_spikes(values[:3], SPIKES, dtype=tf.float64),
        [[0.01, 0, 0], [0.01, 0, 0], [0, 0, 0]],
    )
    plain = units.to_density_units(
        values, None, "none", tf.constant([1, 2]), steps=np.array([0.0, 1, 0]), spikes=SPIKES
    )
    np.testing.assert_array_equal(plain, values)


def pressure(number=600):
    """About 101325, and this very number in four rows of ten."""
    generator = np.random.default_rng(4)
    values = 101325 + 500 * generator.normal(size=number)
    values[generator.random(number) < 0.4] = 101325
    return {"pressure": values, "other": generator.normal(size=number)}


def test_where_numbers_are_coarse_a_spike_is_spread_over_more(tmp_path):
    """Bins, noise, draws and the message agree."""
    pq.write_table(pa.table(pressure()), tmp_path / "a.parquet")
    config = nice_tf.Config(
        dataset=str(tmp_path / "a.parquet"), batch_size=50, marginals="quantile", num_couplings=2
    )
    data = dataset.load(config)
    assert "pressure is 101325" in data.warnings[0] and "kept as a spike" in data.warnings[0]
    width = float(data.spikes.widths[0, 0])
    assert data.schema.columns[0].spike_width < width < 2
    values = data.train
    assert values.dtype == np.float32
    is_spike = values[:, 0] == 101325
    x = units.to_density_units(
        values, None, "uniform", tf.constant([1, 2]), steps=data.steps, spikes=data.spikes
    ).numpy()
    moved = (x - values)[is_spike, 0]
    assert np.mean(moved != 0) > 0.95 and len(np.unique(moved)) > 60
    assert abs(moved.std() - width / 12**0.5) < 0.1 * width
    flow = make_flow(config, [2], schema=data.schema)
    nice_tf.initialize_from_data(flow, tf.constant(x))
    inside = tf.constant([[101325 - 0.4 * width, 0.0], [101325.0, 0.0], [101325 + 0.4 * width, 0]])
    outside = tf.constant([[101325 - 0.6 * width, 0.0], [101325 + 0.6 * width, 0.0]])
    log_prob = flow.log_prob(inside).numpy()
    np.testing.assert_allclose(log_prob, log_prob[1], atol=0.5)
    assert flow.log_prob(outside).numpy().max() < log_prob.min() - 3
    spread = units.widths_of_spikes(values, data.spikes, dtype=tf.float64).numpy()
    np.testing.assert_array_equal(spread[:, 0] > 0, is_spike)
    np.testing.assert_allclose(data.schema.rounded(x)[is_spike, 0], 101325, rtol=0)


def test_one_far_spike_does_not_widen_the_others():
    column = Column("a", 0.0, -5.0, 1e6, spikes=(0.0, 1e6), spike_width=0.001)
    np.testing.assert_allclose(column.spike_widths, [0.001, 64 * 2**-23 * 1e6])
    moved = column.on_spikes(np.array([0.01, 0.0005, 999_995.0]))
    np.testing.assert_array_equal(moved, [0.01, 0, 1e6])
    values = np.array([[0.0, 1e6]])
    widths = column.spike_widths[np.newaxis]
    layer = nice_tf.QuantileTransform(1, spikes=values, spike_widths=widths, dtype=tf.float64)
    generator = np.random.default_rng(5)
    x = generator.normal(size=1000)
    x[:400] = widths[0, 0] * generator.uniform(-0.5, 0.5, 400)
    x[400:600] = 1e6 + widths[0, 1] * generator.uniform(-0.5, 0.5, 200)
    layer.fit(generator.permutation(x)[:, np.newaxis])
    for value, width, share in ((0.0, widths[0, 0], 0.4), (1e6, widths[0, 1], 0.2)):
        ends = tf.constant([[value - width / 2], [value + width / 2]], tf.float64)
        low, high = tf.sigmoid(layer.forward(ends)).numpy()[:, 0]
        assert abs(high - low - share) < 0.01


def test_marginals_have_the_bins_that_spikes_are_spread_over():
    """Whatever bins the rest has: also of a spike that fits of few bins would not find."""
    generator = np.random.default_rng(1)
    shares = {0.0: 0.4, 2.5: 0.03}
    x = generator.gamma(2.0, 1.0, 2000)
    x[:800] = 0.0
    x[800:860] = 2.5
    is_spike = np.arange(2000) < 860
    x = x + np.where(is_spike, 0.01 * generator.uniform(-0.5, 0.5, 2000), 0)
    layer = nice_tf.QuantileTransform(1, spikes=[[0.0, 2.5]], spike_widths=0.01, dtype=tf.float64)
    layer.fit(generator.permutation(x)[:, np.newaxis])
    for value, share in shares.items():
        ends = value + np.array([[-0.005], [0.005]])
        low, high = tf.sigmoid(layer.forward(tf.constant(ends))).numpy()[:, 0]
        assert abs(high - low - share) < 0.01
        inside = value + np.linspace(-0.0049, 0.0049, 7)[:, np.newaxis]
        z = layer.forward(tf.constant(inside))
        of_prior = -(tf.nn.softplus(z) + tf.nn.softplus(-z))[:, 0]
        log_det = layer.forward_log_det_jacobian(tf.identity(inside), event_ndims=1)
        log_density = log_det + of_prior
        np.testing.assert_allclose(log_density, np.log((high - low) / 0.01), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spikes": [0.0, 1.0]}, r"spikes must have shape \[2, S\], got \[2\]"),
        ({"spikes": [[0.0]]}, r"spikes must have shape \[2, S\], got \[1, 1\]"),
        ({"spike_widths": -1.0}, "spike_widths must be at least 0, got -1.0"),
        ({"spike_widths": np.zeros([2, 3])}, r"or that of spikes, got \[2, 3\]"),
    ],
)
def test_bad_spikes_are_named(arguments, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.QuantileTransform(2, **arguments)


def test_jumps_find_what_lies_apart():
    """The zeros of a column that nothing else tells of, from a start far away from them, whatever
    the length of the chains' steps.
    """
    generator = np.random.default_rng(2)
    x = generator.gamma(3.0, 1.0, [3000, 2])
    x[generator.random(3000) < 0.4, 0] = 0
    spikes = {"spikes": [[0.0], [np.nan]], "spike_widths": 0.002}
    flow = nice_tf.build_flow(
        [2], marginals="quantile", num_couplings=2, hidden_units=(3,), **spikes
    )
    nice_tf.initialize_from_data(flow, tf.constant(x, tf.float32))
    found = draw_between(
        flow,
        np.array([[-np.inf, 1.0]]),
        np.array([[np.inf, 1.0]]),
        start=np.array([[8.0, 1.0]]),
        num_draws=1000,
        num_chains=20,
        num_warmup=30,
        thinning=4,
        seed=[3, 4],
    )
    drawn = found.x[:, 0, 0]
    assert found.effective_sample_size[0] > 500
    assert abs(np.mean(np.abs(drawn) < 0.002) - np.mean(x[:, 0] == 0)) < 0.06


class Still(tfp.mcmc.TransitionKernel):
    """Stays where it is; its results are of the form of those of an adapted HMC."""

    _Step = collections.namedtuple("_Step", ["inner_results"])
    _Inner = collections.namedtuple("_Inner", ["accepted_results"])
    _Accepted = collections.namedtuple("_Accepted", ["target_log_prob", "grads_target_log_prob"])

    def __init__(self, target):
        self._target = target

    @property
    def is_calibrated(self):
        return True

    def bootstrap_results(self, state):
        log_prob = self._target.log_prob(state)
        accepted = self._Accepted(log_prob, [tf.zeros_like(state)])
        return self._Step(self._Inner(accepted))

    def one_step(self, state, results, seed=None):
        return state, results


class Normals:
    """A target of independent coordinates that are not distributed as the proposals."""

    is_hidden = tf.constant([[True, True, False]] * 2000)

    def log_prob(self, state):
        return tf.reduce_sum(tfp.distributions.Normal(1.0, 0.5).log_prob(state), axis=1)

    def to_h(self, state):
        return tf.identity(state)

    def to_state(self, h, state):
        return tf.where(self.is_hidden, h, state)


def test_jumps_alone_leave_a_density_as_it_is_that_is_unlike_the_proposals():
    """Without q in the ratio the mean would be about 0.9, that of p q."""
    target = Normals()
    kernel = WithJumps(Still(target), target, tfp.distributions.Logistic(0.0, 1.0))

    @tf.function
    def after(state):
        results = kernel.bootstrap_results(state)
        for number in tf.range(25):
            state, results = kernel.one_step(state, results, seed=tf.stack([number, 7]))
        return state

    found = after(tf.zeros([2000, 3])).numpy()
    np.testing.assert_array_equal(found[:, 2], np.zeros(2000))
    # Four standard errors of 4,000 independent values.
    assert abs(found[:, :2].mean() - 1.0) < 0.032
    assert abs(found[:, :2].std() - 0.5) < 0.023


def test_a_schema_gathers_the_spikes_of_its_columns(tmp_path):
    columns = [
        Column("a", 1.0, 0, 3),
        Column("b", 0.0, 0.0, 9.0, spikes=(0.0, 4.0), spike_width=0.01),
        Column("c", 0.0, 0.0, 9.0, spikes=(1.0,), spike_width=0.02),
    ]
    found = Schema(tuple(columns), spread=True).spikes
    np.testing.assert_array_equal(found.values, [[np.nan, np.nan], [0, 4], [1, np.nan]])
    np.testing.assert_array_equal(found.widths, [[0, 0], [0.01, 0.01], [0.02, 0]])
    assert Schema((columns[0],), spread=True).spikes is None
    assert Schema(tuple(columns)).spikes is None, "as in runs of earlier versions"
    pq.write_table(pa.table(rows(200, 1)), tmp_path / "a.parquet")
    data = dataset.load(nice_tf.Config(dataset=str(tmp_path / "a.parquet"), batch_size=10))
    assert data.spikes.values[1, 0] == 0 and np.mean(data.train[:, 1] == 0) > 0.3
