"""All settings of a run: one frozen dataclass, from which `config_flags` makes the command-line flags."""

import csv
import dataclasses
import json
import re
from typing import Any, TypeVar

from nice_tf.errors import UserError

T = TypeVar("T")


def _setting(default: T, group: str, text: str, *, choices: tuple[str, ...] = (), changes_result: bool = True) -> T:
    """A field with what its flag needs; `changes_result=False` lets a run be continued with another value."""
    metadata = {"group": group, "text": text, "choices": choices, "changes_result": changes_result}
    return dataclasses.field(default=default, metadata=metadata)


def flag_text(value: Any) -> str:
    """A value as its flag takes it: lists by commas, several by slashes."""
    if not isinstance(value, tuple):
        return str(value)
    lists = value if value and isinstance(value[0], tuple) else (value,)
    return "/".join(",".join(map(str, part)) for part in lists)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run; each field is the flag of the same name, `python train.py --help` explains them.

    Raises:
      UserError: a value out of its bounds, named together with the rule.
    """

    dataset: str = _setting(
        "digits",
        "data",
        "'digits' (scikit-learn's 8x8 digits, no network), the name of a TensorFlow Datasets image set such as mnist, "
        "fashion_mnist, cifar10 or svhn_cropped, or the path of a table (.csv, .parquet), of a folder of PNG or JPEG "
        "pictures, of a .npy or .npz file, or of .tfrecord files; tables and .tfrecord files also by folder or pattern",
    )
    columns: str = _setting(
        "", "data", "names of the columns of a table to model, by commas; empty: all that hold numbers"
    )
    delimiter: str = _setting(
        "", "data", "the character between columns of a CSV table, \\t for a tab; empty: what the file shows"
    )
    decimal: str = _setting(
        "",
        "data",
        "what stands before the decimals of a CSV table's numbers, a dot or a comma; empty: what the file shows",
        choices=("", ".", ","),
    )
    condition_on: str = _setting(
        "",
        "data",
        "name of the label to learn p(x given its class) by: label for digits, a class label of a TensorFlow Datasets "
        "set, a column of a table, or NAME for the array NAME of a .npz file (with splits train_NAME, test_NAME); "
        "empty: p(x)",
    )
    impute: bool = _setting(
        False, "data", "fill missing values of a table with others of their column, drawn at random; else refuse them"
    )
    resize: tuple[int, ...] = _setting(
        (), "data", "height,width that all pictures of a folder are brought to; empty: they must be of one size"
    )
    skip_bad: bool = _setting(False, "data", "leave out pictures that cannot be decoded, naming them; else stop")
    data_dir: str = _setting(
        "",
        "data",
        "where TensorFlow Datasets keeps prepared sets, and where TFRecord files and other large sets are copied to, "
        "row by row; empty: its own default folder, and ~/.cache/nice_tf",
        changes_result=False,
    )
    manual_dir: str = _setting(
        "",
        "data",
        "folder with the original files of a TFDS set, to prepare it without a network",
        changes_result=False,
    )
    in_memory_mb: int = _setting(
        512,
        "data",
        "arrays of more MB stay on disk and are read batch by batch, with the same results; .npz files never do",
        changes_result=False,
    )
    levels: int = _setting(
        0, "data", "number of integer levels of the data; 0: 256 for uint8 arrays, none for floating-point arrays"
    )
    num_validation: int = _setting(0, "data", "examples split from train for validation; 0: one sixth of train")
    split_seed: int = _setting(
        0, "data", "seed of the random split of digits and of arrays, kept apart from --seed so that runs compare"
    )
    dequantization: str = _setting(
        "uniform", "data", "noise on integer data: fresh U[0,1) a value, or none", choices=("uniform", "none")
    )

    num_couplings: int = _setting(4, "model", "number of additive coupling layers")
    hidden_units: tuple[int, ...] | tuple[tuple[int, ...], ...] = _setting(
        (1000,) * 5,
        "model",
        "widths of the hidden layers of each m, by commas; with slashes one such list for each coupling: 20,20/20/9",
    )
    activation: str = _setting(
        "relu",
        "model",
        "activation of the hidden layers",
        choices=("relu", "elu", "gelu", "silu", "softplus", "tanh"),
    )
    residual: bool = _setting(
        False, "model", "add the input of each layer between hidden ones of equal width to its output"
    )
    input_range: str = _setting(
        "unit",
        "model",
        "scale on which the first layers put x (its log-det is counted): that of [0, 1] for unit, of [-1, 1] for "
        "symmetric",
        choices=("unit", "symmetric"),
    )
    whitening: str = _setting(
        "none",
        "model",
        "linear layer before the couplings, fitted to the training data: mean and deviation of each value, zca, a "
        "triangular matrix that is then trained, too, or for tables standardize and then that",
        choices=("none", "standardize", "zca", "triangular", "standardize_triangular"),
    )
    whitening_epsilon: float = _setting(
        0.0,
        "model",
        "floor of the covariance's eigenvalues in zca, in squared density units (values on [0, 1]); 0: none",
    )
    partition: str = _setting(
        "interleaved",
        "model",
        "which coordinates form the two halves; checkerboard is for pictures",
        choices=("interleaved", "halves", "checkerboard"),
    )
    mixing: str = _setting("swap", "model", "what happens between couplings", choices=("swap", "reverse", "shuffle"))
    prior: str = _setting("logistic", "model", "density of each latent coordinate", choices=("logistic", "gaussian"))
    scaling: str = _setting(
        "layer",
        "model",
        "diagonal scaling as a layer, as trainable scales of the prior (the same density), or none",
        choices=("layer", "prior", "none"),
    )
    output_scale: str = _setting(
        "deviation",
        "model",
        "factor on the outputs of m, not trained: with data_init the deviation of each shifted coordinate in the "
        "training data, so that all are learned at a like pace; or one. Both can become the same densities",
        choices=("deviation", "one"),
    )
    kernel_init: str = _setting(
        "he_normal",
        "model",
        "start of the kernels of m: N(0, 2 / fan_in), or uniform on [-init_range, init_range]",
        choices=("he_normal", "uniform"),
    )
    init_range: float = _setting(0.01, "model", "of kernel_init=uniform")
    zero_last_layer: bool = _setting(True, "model", "start each m at zero, so that the first step sees exact scales")
    data_init: bool = _setting(
        True, "model", "start the mean, 1/s and output_scale=deviation from the training data's mean and deviation"
    )
    allow_incomplete_mixing: bool = _setting(
        False, "model", "build also a flow in which some z cannot depend on some x"
    )
    precision: str = _setting(
        "auto",
        "model",
        "of variables and densities; bfloat16: float32, but the matrix products of m in bfloat16 while training; auto: "
        "bfloat16 where the hardware multiplies it, else float32",
        choices=("auto", "float32", "float64", "bfloat16"),
    )

    epochs: int = _setting(100, "training", "passes over the training examples")
    batch_size: int = _setting(
        200, "training", "examples a step; 0: a hundredth of the training examples, from 32 to 1,000"
    )
    optimizer: str = _setting(
        "adam",
        "training",
        "adam, or rmsprop as in the code released with the paper, with momentum and epsilon as the root's floor",
        choices=("adam", "rmsprop"),
    )
    learning_rate: float = _setting(1e-3, "training", "after warm-up")
    schedule: str = _setting(
        "constant",
        "training",
        "learning rate after warm-up: cosine falls to 0, exponential is divided by learning_rate_decay each step",
        choices=("constant", "cosine", "exponential"),
    )
    warmup_steps: int = _setting(0, "training", "steps over which the learning rate rises, in equal parts")
    learning_rate_decay: float = _setting(1.0005, "training", "divisor a step of schedule=exponential")
    min_learning_rate: float = _setting(1e-4, "training", "where schedule=exponential stops falling")
    beta_1: float = _setting(0.9, "training", "Adam's decay of the mean gradient, a step")
    beta_2: float = _setting(0.99, "training", "decay of the mean squared gradient, a step, of both optimizers")
    epsilon: float = _setting(1e-4, "training", "Adam's epsilon, or the floor of RMSProp's root mean squared gradient")
    momentum: float = _setting(0.0, "training", "of RMSProp")
    momentum_start_epoch: int = _setting(0, "training", "epochs of RMSProp without its momentum, at the start")
    weight_decay: float = _setting(0.0, "training", "decoupled decay of the kernels of m, times learning rate, a step")
    gradient_clip_norm: float = _setting(0.0, "training", "largest global norm of the gradient; 0: not clipped")
    dropout: float = _setting(0.0, "training", "share of the hidden units of m that each training step leaves out")
    max_shift: int = _setting(
        0, "training", "pixels by which a training picture may be moved up, down, left and right; 0: not moved"
    )
    shift_share: float = _setting(
        0.0, "training", "share of the epochs, at the start, with max_shift; the rest sees the pictures as they are"
    )
    ema_decay: float = _setting(
        0.0, "training", "decay a step of the averaged weights that validation and all results then use; 0: off"
    )
    early_stopping_epochs: int = _setting(
        0, "training", "stop after so many epochs without a better validation log-likelihood; 0: never"
    )
    seed: int = _setting(0, "training", "of weights, data order, noise and samples")
    deterministic: bool = _setting(False, "training", "only deterministic operations: same seed, same bits; slower")
    jit_compile: str = _setting(
        "auto",
        "training",
        "compile the training step with XLA; auto: on GPUs",
        choices=("auto", "true", "false"),
    )
    steps_per_execution: int = _setting(
        0,
        "training",
        "training steps in one call from Python; 0: an epoch's on GPUs, else 1",
        changes_result=False,
    )
    strategy: str = _setting(
        "auto",
        "training",
        "who shares each batch: one device for none, all GPUs of this machine for mirrored, the machines in the "
        "environment variable TF_CONFIG for multi_worker; auto: what there is",
        choices=("auto", "none", "mirrored", "multi_worker"),
        changes_result=False,
    )

    num_draws: int = _setting(
        10, "results", "noise draws averaged in the test log-likelihood of each example", changes_result=False
    )
    sample_every_epochs: int = _setting(
        5, "results", "epochs between sample pictures; 0: only at the end", changes_result=False
    )
    temperature: float = _setting(1.0, "results", "of the samples: factor on the prior's draw", changes_result=False)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and value not in choices:
                raise UserError(f"{field.name} must be one of {', '.join(choices)}, got {value!r}")
        units = self.hidden_units
        per_coupling = any(not isinstance(part, int) for part in units)
        object.__setattr__(self, "hidden_units", tuple(map(tuple, units)) if per_coupling else tuple(units))
        object.__setattr__(self, "resize", tuple(self.resize))
        object.__setattr__(self, "delimiter", self.delimiter.replace("\\t", "\t"))  # as a flag spells it
        at_least = {
            "num_couplings": 1,
            "epochs": 1,
            "batch_size": 0,
            "num_draws": 1,
            "in_memory_mb": 0,
            "levels": 0,
            "num_validation": 0,
            "warmup_steps": 0,
            "momentum_start_epoch": 0,
            "min_learning_rate": 0,
            "learning_rate_decay": 1,
            "whitening_epsilon": 0,
            "weight_decay": 0,
            "max_shift": 0,
            "gradient_clip_norm": 0,
            "early_stopping_epochs": 0,
            "sample_every_epochs": 0,
            "steps_per_execution": 0,
            "split_seed": 0,
            "seed": 0,
        }
        for name, lowest in at_least.items():
            if not getattr(self, name) >= lowest:
                raise UserError(f"{name} must be at least {lowest}, got {getattr(self, name)}")
        for name in ("learning_rate", "epsilon", "temperature", "init_range"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} must be a finite number above 0, got {getattr(self, name)}")
        for name in ("beta_1", "beta_2", "ema_decay", "momentum", "dropout", "shift_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if any(size < 1 for part in self.hidden_units for size in (part if per_coupling else (part,))):
            raise UserError(f"hidden_units must all be at least 1, got {self.as_dict()['hidden_units']}")
        if per_coupling and len(self.hidden_units) != self.num_couplings:
            raise UserError(
                f"hidden_units has {len(self.hidden_units)} lists for {self.num_couplings} couplings: give one for "
                "each, or a single one for all"
            )
        if self.resize and (len(self.resize) != 2 or min(self.resize) < 1):
            raise UserError(f"resize must be height,width of at least 1, got {self.flag_text('resize')}")
        if self.delimiter and not re.fullmatch(r"[\t !#-*,/:-@\[-`{-~]", self.delimiter):
            raise UserError(
                "delimiter must be one character of ASCII that is no letter, no digit, no quote and no part of a "
                f"number, got {self.delimiter!r}"
            )
        if self.whitening_epsilon and self.whitening != "zca":
            raise UserError(
                f"whitening_epsilon is for whitening zca, got {self.whitening_epsilon} with whitening {self.whitening}"
            )
        if bool(self.max_shift) != bool(self.shift_share):
            raise UserError(
                f"max_shift and shift_share go together, got max_shift {self.max_shift}, shift_share {self.shift_share}"
            )
        if self.schedule == "exponential" and self.warmup_steps:
            raise UserError(f"schedule exponential has no warm-up, got warmup_steps {self.warmup_steps}")
        if max(self.seed, self.split_seed) >= 2**31:
            raise UserError(f"seed and split_seed must be below {2**31}, got {self.seed} and {self.split_seed}")
        if self.levels == 1:
            raise UserError("levels must be at least 2 (or 0 to take it from the data's type), got 1")

    def check_is_unconditional(self, what: str) -> None:
        """Looks whether the density takes no labels, for what can give it none.

        Args:
          what: the run, for the message.

        Raises:
          UserError: it takes some.
        """
        if self.condition_on:
            raise UserError(
                f"{what} has condition_on {self.condition_on}: this command asks for p(x) alone, without labels. In "
                "Python nice_tf.load_flow gives the conditional density and nice_tf.context_kwargs its labels "
                "(docs/results.md, digits by their class); or train without condition_on"
            )

    @property
    def column_names(self) -> list[str]:
        """The names of `columns`; one with a comma in it stands in double quotes."""
        return [name.strip() for name in next(csv.reader([self.columns], skipinitialspace=True), []) if name.strip()]

    @property
    def num_shifted_epochs(self) -> int:
        """Epochs with `max_shift`: `shift_share` of all, rounded down."""
        return int(self.shift_share * self.epochs + 1e-9)  # 0.29 * 100 is a little less than 29

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        units = [list(part) if isinstance(part, tuple) else part for part in self.hidden_units]
        return {**dataclasses.asdict(self), "hidden_units": units, "resize": list(self.resize)}

    def flag_text(self, name: str) -> str:
        """The value of a setting as its flag takes it."""
        return flag_text(getattr(self, name))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """The inverse of `as_dict`; a run from before `output_scale` was a setting has `"one"`.

        Raises:
          UserError: a field this version does not know.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise UserError(f"unknown settings {', '.join(unknown)}: written by another version of nice_tf?")
        return cls(**{"output_scale": "one"} | values)

    def result_text(self) -> str:
        """The settings that change a result, as JSON."""
        kept = {field.name for field in dataclasses.fields(self) if field.metadata["changes_result"]}
        return json.dumps({name: value for name, value in self.as_dict().items() if name in kept})

    def differences(self, other: "Config") -> list[str]:
        """Lines `name: mine, not theirs` for the settings that change a result and differ."""
        return [
            f"{field.name}: {getattr(self, field.name)!r}, not {getattr(other, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.metadata["changes_result"] and getattr(self, field.name) != getattr(other, field.name)
        ]
