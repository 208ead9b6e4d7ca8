import csv
import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from absl import flags
from bijector_laws import fresh
from pace import slow_except

import nice_tf
from nice_tf import memory
from nice_tf.cli.config_flags import define_flags, from_flags, read_flagfile
from nice_tf.data import dataset, units
from nice_tf.runs import architecture
from nice_tf.training import model

tfb = tfp.bijectors
ROOT = pathlib.Path(__file__).parents[1]
FLAG_FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/**/*.flags"))


def flag_file_config(name):
    """The configuration a flag file spells, read by absl as the command does."""
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_string("workdir", "", "", flag_values=values)
    values(["train.py", f"--flagfile={ROOT / name}"])
    return from_flags(values)


@pytest.mark.parametrize(
    ("share", "epochs", "expected"), [(0.65, 100, 65), (0.29, 100, 29), (0.65, 3, 1), (0.65, 1, 0)]
)
def test_shifted_epochs_are_a_share_rounded_down(share, epochs, expected):
    assert (
        nice_tf.Config(max_shift=1, shift_share=share, epochs=epochs).num_shifted_epochs == expected
    )


@pytest.mark.parametrize("name", FLAG_FILES)
def test_every_flag_file_builds(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = flag_file_config(name)
    header = (ROOT / name).read_text()
    assert header.startswith("# ") and f"nice-tf train --flagfile={name}" in header
    event_shape = {"digits": [8, 8, 1], "mnist": [28, 28, 1], "tfd.npz": [48, 48]}.get(
        config.dataset, [32, 32, 3]
    )
    with (
        tf.Graph().as_default()
    ):  # variables have their shapes there, and no values: 349 million would take 1.4 GB
        built = architecture.make_flow(config, event_shape)
    parameters = sum(variable.shape.num_elements() for variable in built.trainable_variables)
    if config.dataset != "digits":
        assert (
            parameters == PARAMETERS[name.removeprefix("configs/")]
            and f"{parameters:,} parameters" in header
        )


def counted_by_hand(size, depths, width):
    """Weights and biases of one m for each number of hidden layers, and the scaling."""
    half = size // 2
    return size + sum(
        (half + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * half
        for depth in depths
    )


PARAMETERS = {
    "mnist.flags": 1_646_108,
    "mnist_fast.flags": 1_886_272,
    "mnist_nested.flags": 1_937_980,
    "mnist_nested_convolution.flags": 1_767_373,
    "mnist_plain.flags": 19_158_352,
    "mnist_small.flags": 4_488_592,
    "mnist_gaussian.flags": 19_158_352,
    "cifar10.flags": 630_532,
    "paper/mnist.flags": 19_158_352,
    "paper/tfd.flags": 346_166_912 + 2_657_664,
    "paper/svhn.flags": 72_617_216,
    "paper/cifar10.flags": 72_617_216,
    "code_2014/mnist.flags": 19_158_352,
    "code_2014/tfd.flags": counted_by_hand(2304, (3, 3, 2, 2, 1, 1, 1, 1), 2000),
    "code_2014/svhn.flags": counted_by_hand(3072, (3, 3, 3, 3), 2000),
    "code_2014/cifar10.flags": counted_by_hand(3072, (1, 1, 3, 3, 2, 2, 1, 1), 2400),
}


# Of the released code: what is common, then what differs (Dinh et al. 2014, exp/*.yaml; momentum
# from epoch 6 on).
RELEASED = {
    "optimizer": "rmsprop",
    "beta_2": 0.95,
    "epsilon": 1e-2,
    "momentum": 0.5,
    "momentum_start_epoch": 5,
    "schedule": "exponential",
    "learning_rate": 1e-3,
    "learning_rate_decay": 1.0005,
    "min_learning_rate": 1e-4,
    "batch_size": 200,
    "epochs": 1500,
    "mixing": "reverse",
    "partition": "interleaved",
    "init_range": 0.01,
    "kernel_init": "uniform",
    "weight_decay": 0.0,
    "data_init": False,
    "zero_last_layer": False,
    "scaling": "layer",
    "output_scale": "one",
}
RELEASED_BY_SET = {
    "mnist": {},
    "tfd": {"batch_size": 128},
    "svhn": {"partition": "halves"},
    "cifar10": {"partition": "halves", "learning_rate": 2e-4, "min_learning_rate": 1e-5},
}
PAPER = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "beta_1": 0.9,
    "beta_2": 0.99,
    "epsilon": 1e-4,
    "weight_decay": 0.0,
    "epochs": 1500,
    "partition": "interleaved",
    "mixing": "swap",
    "kernel_init": "uniform",
    "init_range": 0.01,
    "data_init": False,
    "zero_last_layer": False,
    "scaling": "layer",
    "num_couplings": 4,
    "output_scale": "one",
}


@pytest.mark.parametrize("name", RELEASED_BY_SET)
def test_presets_have_the_numbers_of_their_sources(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    code = flag_file_config(f"configs/code_2014/{name}.flags").as_dict()
    expected = {**RELEASED, **RELEASED_BY_SET[name]}
    assert {key: code[key] for key in expected} == expected
    paper = flag_file_config(f"configs/paper/{name}.flags").as_dict()
    expected = {**PAPER, "batch_size": 128 if name == "tfd" else 200}
    assert {key: paper[key] for key in expected} == expected


def test_settings_of_the_start_reach_the_flow():
    config = nice_tf.Config(
        hidden_units=(40,),
        input_range="symmetric",
        kernel_init="uniform",
        init_range=0.02,
        zero_last_layer=False,
    )
    built = nice_tf.layers(architecture.make_flow(config, [6]))
    (scale,) = (layer for layer in built if isinstance(layer, tfb.Scale))
    assert float(scale.scale) == 2.0
    kernels = [
        v
        for layer in built
        if hasattr(layer, "conditioner")
        for v in layer.variables
        if v.shape.rank == 2
    ]
    assert len(kernels) == 8
    for kernel in kernels:
        assert 0.015 < np.max(np.abs(kernel)) <= 0.02


def test_flag_files_say_what_they_are_for(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert flag_file_config("configs/mnist_plain.flags").prior == "logistic"
    for name in ("mnist", "tfd", "svhn", "cifar10"):
        paper, code = (
            flag_file_config(f"configs/paper/{name}.flags"),
            flag_file_config(f"configs/code_2014/{name}.flags"),
        )
        assert (paper.optimizer, paper.learning_rate, paper.beta_2, paper.epsilon) == (
            "adam",
            1e-3,
            0.99,
            1e-4,
        )
        assert (code.optimizer, code.beta_2, code.epsilon, code.mixing) == (
            "rmsprop",
            0.95,
            1e-2,
            "reverse",
        )
        assert {paper.epochs, code.epochs} == {1500} and code.init_range == 0.01
        assert (
            paper.whitening == {"mnist": "none", "tfd": "triangular"}.get(name, "zca")
            and code.whitening == "none"
        )
        assert paper.prior == ("gaussian" if name == "tfd" else "logistic")
        assert code.prior == ("gaussian" if name in ("svhn", "cifar10") else "logistic")
        assert (
            paper.input_range == code.input_range == ("symmetric" if name == "cifar10" else "unit")
        )
    recipe = flag_file_config("configs/mnist_plain.flags")
    assert recipe.marginals == "none"
    assert flag_file_config("configs/mnist_gaussian.flags") == dataclasses.replace(
        recipe, prior="gaussian"
    )
    assert flag_file_config("configs/digits.flags").hidden_units == (512, 512, 512)
    assert flag_file_config("configs/mnist_nested.flags").marginals == "quantile"
    for name in ("mnist", "mnist_fast", "digits"):
        assert flag_file_config(f"configs/{name}.flags").marginals == "trained"


@pytest.mark.usefixtures("without_denoising")  # which the runs of the README have
@pytest.mark.parametrize(
    "name",
    slow_except(
        [name for name in FLAG_FILES if name.count("/") == 2],
        "configs/paper/mnist.flags",
        "configs/code_2014/tfd.flags",
    ),
)
def test_presets_train_and_are_read_back(name, tmp_path, monkeypatch):
    """Each experiment's own settings on the digits, with m narrowed: whitening, range and schedule
    as they stand.
    """
    monkeypatch.chdir(ROOT)
    config = flag_file_config(name)
    nested = isinstance(config.hidden_units[0], tuple)
    narrow = (
        tuple((8,) * len(widths) for widths in config.hidden_units)
        if nested
        else (8,) * len(config.hidden_units)
    )
    config = dataclasses.replace(
        config,
        dataset="digits",
        hidden_units=narrow,
        num_validation=250,
        batch_size=100,
        epochs=2,
        num_draws=2,
        precision="float32",
        sample_every_epochs=0,
    )
    result = nice_tf.train_and_evaluate(config, tmp_path)
    history = [
        float(row["log_prob"])
        for row in csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines())
    ]
    assert history[1] > history[0], "it learns"
    flow, test = nice_tf.load_flow(tmp_path), dataset.load(config).test
    own = flow.log_prob(nice_tf.dequantize(test, 17, tf.constant([4, 2]))).numpy()
    np.testing.assert_allclose(own.mean(), result["log_prob"], rtol=0.02)
    x = nice_tf.dequantize(test[:5], 17, tf.constant([4, 2]))
    np.testing.assert_allclose(flow.bijector.forward(fresh(flow.bijector.inverse(x))), x, atol=1e-3)


CHOICES = {
    field.name: field.metadata["choices"]
    for field in dataclasses.fields(nice_tf.Config)
    if field.metadata["choices"]
}


def described(name, value):
    """What a flow of this setting is, as far as the setting can change it."""
    settings = {"hidden_units": (5,), "zero_last_layer": False, name: value}
    if value == "nested":
        settings["num_couplings"] = 2
    flow = nice_tf.build_flow([2, 2, 2], **settings)
    layers = nice_tf.layers(flow)
    couplings = [layer for layer in layers if isinstance(layer, nice_tf.AdditiveCoupling)]
    return (
        [
            (type(layer).__name__, [v.shape.rank for v in layer.trainable_variables])
            for layer in layers
        ],
        type(flow.distribution.distribution).__name__,
        len(flow.trainable_variables),
        [layer.conditioner.has_output_scale for layer in couplings],
        flow.log_prob(tf.reshape(tf.range(16.0), [2, 2, 2, 2]) / 16).numpy().tolist(),
    )


@pytest.mark.parametrize(
    "name",
    [
        "partition",
        "mixing",
        "prior",
        "scaling",
        "whitening",
        "input_range",
        "output_scale",
        "activation",
    ],
)
def test_every_choice_is_another_flow(name):
    """A name that no part knows, or that is taken for another, is found here."""
    found = [described(name, value) for value in CHOICES[name]]
    for first, second in itertools.combinations(found, 2):
        assert first != second
    with pytest.raises(nice_tf.UserError, match=f"{name} must be one of {CHOICES[name][0]}, "):
        nice_tf.build_flow([2, 2], **{name: "other"})


def test_every_dequantization_is_another():
    values = tf.constant([0, 1, 2])
    found = [
        units.to_density_units(values, 3, name, tf.constant([1, 2])).numpy().tolist()
        for name in CHOICES["dequantization"]
    ]
    assert found[0] != found[1]


def test_json_round_trip():
    config = nice_tf.Config(hidden_units=[3, 4], epochs=7)
    assert nice_tf.Config.from_dict(config.as_dict()) == config
    with pytest.raises(nice_tf.UserError, match="unknown settings colour"):
        nice_tf.Config.from_dict({**config.as_dict(), "colour": 1})


def test_runs_from_before_output_scales_are_read_and_continued(tmp_path):
    config = nice_tf.Config(
        output_scale="one", hidden_units=(8,), epochs=1, num_draws=1, sample_every_epochs=0
    )
    nice_tf.train_and_evaluate(config, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    del written["config"]["output_scale"]
    (tmp_path / "config.json").write_text(json.dumps(written))
    (tmp_path / "checksums.json").unlink()  # nor had it checksums
    assert not any(
        "output_scale" in variable.name for variable in nice_tf.load_flow(tmp_path).variables
    )
    nice_tf.train_and_evaluate(config, tmp_path)
    with pytest.raises(
        nice_tf.UserError, match="output_scale: 'deviation', where the run has 'one'"
    ):
        nice_tf.train_and_evaluate(dataclasses.replace(config, output_scale="deviation"), tmp_path)


def test_runs_from_before_mixture_priors_are_read():
    written = nice_tf.Config(prior="gaussian", seed=3).as_dict()
    del written["prior_components"]
    config = nice_tf.Config.from_dict(written)
    assert config.prior_components == 8
    assert config.differences(nice_tf.Config(prior="gaussian", seed=3)) == []


def test_differences_leave_out_what_changes_no_result():
    config = nice_tf.Config()
    assert config.differences(nice_tf.Config(data_dir="/elsewhere", num_draws=3)) == []
    assert config.differences(nice_tf.Config(seed=1, prior="gaussian")) == [
        "prior: 'logistic', where the run has 'gaussian'",
        "seed: 0, where the run has 1",
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"prior": "cauchy"},
            "prior must be one of logistic, gaussian, logistic_mixture, got 'cauchy'",
        ),
        ({"mixing": "stir"}, "mixing must be one of swap, reverse, shuffle, got 'stir'"),
        (
            {"partition": "thirds"},
            "partition must be one of interleaved, halves, checkerboard, checkerboard_channels, nested, got 'thirds'",
        ),
        ({"num_couplings": 0}, "num_couplings must be at least 1, got 0"),
        ({"hidden_units": (10, 0)}, r"hidden_units must all be at least 1, got \[10, 0\]"),
        ({"batch_size": -1}, "batch_size must be at least 0, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0, got nan"),
        ({"temperature": -1.0}, "temperature must be a finite number above 0, got -1.0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"max_shift": 1}, "go together, got max_shift 1, shift_share 0"),
        ({"shift_share": 0.5}, "go together, got max_shift 0, shift_share 0.5"),
        (
            {"shift_share": 1.0, "max_shift": 1},
            "shift_share must be at least 0 and below 1, got 1.0",
        ),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        (
            {"hidden_units": ((4,), (4, 0)), "num_couplings": 2},
            r"hidden_units must all be at least 1, got \[\[4\], \[4, 0\]\]",
        ),
        ({"hidden_units": ((4,), (5,))}, "hidden_units has 2 lists for 4 couplings"),
        (
            {"whitening_epsilon": 0.1},
            "whitening_epsilon is for whitening zca, got 0.1 with whitening none",
        ),
        ({"prior_components": 1}, "prior_components must be at least 2, got 1"),
        ({"prior_components": 1001}, "prior_components must be below 1001, got 1001"),
        (
            {"prior_components": 4, "prior": "gaussian"},
            "prior_components is for prior logistic_mixture, got 4 with prior gaussian",
        ),
        (
            {"prior_clusters": 4},
            "prior_clusters is for prior logistic_mixture, got 4 with prior logistic",
        ),
        (
            {"prior_patch": 4, "prior": "logistic_mixture"},
            "prior_patch is for several prior_clusters, got 4 with prior_clusters 1",
        ),
        ({"levels": 1}, "levels must be at least 2"),
        ({"seed": 2**31}, "must be below 2147483648, got 2147483648"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.Config(**setting)


def test_flag_files_that_come_with_the_package_go_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("table", "paper/mnist"):
        found = read_flagfile(name, epochs=7)
        assert found == read_flagfile(ROOT / "configs" / f"{name}.flags", epochs=7)
        assert found != nice_tf.Config(epochs=7)
    (tmp_path / "table").mkdir()
    assert read_flagfile("table").marginals == "quantile"
    (tmp_path / "digits").write_text("--marginals=none\n--epochs=3")
    found = read_flagfile("digits")
    assert (found.marginals, found.epochs) == ("none", 3), "a file that exists is meant"


def test_flag_files_as_settings(tmp_path):
    config = read_flagfile(ROOT / "configs" / "mnist_small.flags", epochs=7)
    assert (config.dataset, config.epochs, config.shift_share, config.max_shift) == (
        "mnist",
        7,
        0.6,
        1,
    )
    for content, message in (
        ("--no_such=3", "no_such"),
        ("epochs=3", "'epochs=3' is no flag"),
        ("--epochs=0", "epochs must be at least 1"),
    ):
        (tmp_path / "a.flags").write_text(content)
        with pytest.raises(nice_tf.UserError, match=message):
            read_flagfile(tmp_path / "a.flags")
    with pytest.raises(nice_tf.UserError, match="nowhere"):
        read_flagfile("nowhere.flags")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--resize=/", "expected integers by commas"),
        ("--resize=1/2", "expected integers by commas"),
        ("--resize=28,28/3", "expected integers by commas"),
        ("--resize=28", "resize must be height,width of at least 1, got 28"),
        ("--resize=0,4", "resize must be height,width of at least 1, got 0,4"),
        (
            "--resize=100000,100000",
            "resize must give at most 134,217,728 pixels, got 100000,100000",
        ),
        (
            "--warmup_steps=100000000000000000000",
            "warmup_steps must be below 2147483648, got 100000000000000000000",
        ),
        (
            "--momentum_start_epoch=100000000000000000000",
            "momentum_start_epoch must be below 2147483648, got 1000",
        ),
        ("--epochs=0x" + "f" * 5000, "epochs must be below 2147483648, got a number of 20000 bits"),
        ("--num_couplings=1001", "num_couplings must be below 1001, got 1001"),
        (
            "--hidden_units=3,100000000000000",
            r"hidden_units must all be below 2147483648, got \[3, 100000000000000\]",
        ),
        ("--hidden_units=/", "hidden_units has 2 lists for 4 couplings"),
        ("--weight_decay=inf", "weight_decay must be at least 0 and finite, got inf"),
        ("--learning_rate=1e400", "learning_rate must be a finite number above 0, got inf"),
        (
            "--learning_rate=1e39",
            r"learning_rate must be a finite number above 0, got 1e\+39 \(inf in float32\)",
        ),
        (
            "--epsilon=1e-60",
            r"epsilon must be a finite number above 0, got 1e-60 \(0\.0 in float32\)",
        ),
        (
            "--beta_2=0.999999999",
            r"beta_2 must be at least 0 and below 1, got 0\.999999999 \(1\.0 in float32\)",
        ),
        ("--dataset=a\0b", "dataset must be text in UTF-8 without zero bytes"),
        ("--columns=\ud800", "columns must be text in UTF-8 without zero bytes"),
    ],
)
def test_odd_flags_are_refused_by_rule(flag, message):
    values = flags.FlagValues()
    define_flags(values)
    with pytest.raises((nice_tf.UserError, flags.IllegalFlagValueError), match=message):
        values(["train.py", flag])
        from_flags(values)


def test_every_number_has_bounds_and_none_is_infinite():
    """What is infinite or NaN would make `config.json` no JSON."""
    for field in dataclasses.fields(nice_tf.Config):
        if isinstance(field.default, bool) or not isinstance(field.default, int | float):
            continue
        assert field.metadata["at_least"] is not None or field.metadata["above"] is not None, (
            field.name
        )
        values = (
            (float("inf"), float("-inf"), float("nan"))
            if isinstance(field.default, float)
            else (-1, 2**31)
        )
        for value in values:
            with pytest.raises(nice_tf.UserError, match=f"^{field.name} must be .*got {value}"):
                nice_tf.Config(**{field.name: value})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": "7"}, "epochs must be a whole number, got '7'"),
        ({"epochs": 7.0}, "epochs must be a whole number, got 7.0"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"dropout": None}, "dropout must be a number, got None"),
        ({"impute": 1}, "impute must be true or false, got 1"),
        ({"dataset": 3}, "dataset must be text, got 3"),
        ({"prior": ["logistic"]}, "prior must be one of"),
        ({"hidden_units": "12"}, "hidden_units must be a list of whole numbers, got '12'"),
        ({"hidden_units": None}, "hidden_units must be a list of whole numbers, got None"),
        ({"hidden_units": (3, (4,))}, "or a list of such lists"),
        ({"hidden_units": (3.5,)}, "hidden_units must all be at least 1"),
        ({"resize": ((1,), (2,))}, "resize must be height,width"),
    ],
)
def test_settings_of_another_type(setting, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.Config(**setting)


@pytest.mark.parametrize("units", [(20, 30), (), ((3,), (4, 6), ()), ((5, 5),) * 3])
def test_parameters_are_counted_before_they_are_made(units):
    config = nice_tf.Config(hidden_units=units, num_couplings=3)
    built = architecture.make_flow(config, [8, 4, 1], num_classes=5)
    parameters = sum(variable.shape.num_elements() for variable in built.trainable_variables)
    assert architecture.count_parameters(config, [8, 4, 1], 5) == parameters


def test_a_model_larger_than_memory_is_refused_before_it_is_built(monkeypatch):
    small = nice_tf.Config(hidden_units=(100,), precision="float32")
    digits = dataset.load(small)
    needed = 5 * 4 * architecture.count_parameters(small, [8, 8, 1])
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    model.make_model(small, digits)
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with pytest.raises(
        nice_tf.UserError, match=r"units 100 in 4 couplings .* make 26,1\d\d parameters, which need"
    ):
        model.make_model(small, digits)
    architecture.make_flow(small, [8, 8, 1])  # a fifth of it, to read a run
    monkeypatch.undo()
    huge = {"hidden_units": (20_000, 20_000), "num_couplings": 999}, {"hidden_units": (2**31 - 1,)}
    for changes in (*huge, {"whitening": "zca"}):
        shape = [2000, 2000, 3] if "whitening" in changes else [8, 8, 1]
        with pytest.raises(
            nice_tf.UserError, match=r"GB of memory; .* GB are free: give fewer or narrower"
        ):
            architecture.make_flow(nice_tf.Config(**changes), shape)
