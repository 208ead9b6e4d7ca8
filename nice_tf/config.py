"""All settings of a run: one frozen dataclass, from which `config_flags` makes the command-line
flags.
"""

import csv
import ctypes
import dataclasses
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from nice_tf import choices
from nice_tf.errors import UserError, check_choice

T = TypeVar("T")

MAX_PIXELS = 2**27  # of one picture: what claims more in a few bytes is to fill the memory
_BELOW = 2**31  # of every whole number: what TensorFlow counts in 32 bits


def _setting(
    default: T,
    group: str,
    text: str,
    *,
    choices: Sequence[str] = (),
    changes_result: bool = True,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> T:
    """A field with what its flag needs, and its bounds.

    Args:
      default: its value if not given, of its type.
      group: where the help shows it.
      text: what the help says.
      choices: the values that it can have; empty for any.
      changes_result: `False` lets a run be continued with another value.
      at_least: lowest value of a number.
      above: what a number must be more than.
      below: what a number must be less than; a whole number that gives none, `_BELOW`.

    Returns:
      The field.
    """
    metadata = {
        "group": group,
        "text": text,
        "choices": choices,
        "changes_result": changes_result,
        "at_least": at_least,
        "above": above,
        "below": below,
    }
    return dataclasses.field(default=default, metadata=metadata)


def flag_text(value: Any) -> str:
    """A value as its flag takes it: lists by commas, several by slashes."""
    if not isinstance(value, tuple):
        return str(value)
    lists = value if value and isinstance(value[0], tuple) else (value,)
    return "/".join(",".join(map(str, part)) for part in lists)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run; each field is the flag of the same name, `nice-tf train --help` explains
    them.

    Raises:
      UserError: a value out of its bounds, named together with the rule.
    """

    dataset: str = _setting(
        "digits",
        "data",
        "'digits' (scikit-learn's 8x8 digits, no network); the name of a TensorFlow Datasets image "
        "set such as mnist, fashion_mnist, cifar10 or svhn_cropped; or the path of a table (.csv, "
        ".parquet), a folder of PNG or JPEG pictures, a .npy or .npz file, or .tfrecord files. "
        "Tables and .tfrecord files also go by folder or pattern",
    )
    columns: str = _setting(
        "",
        "data",
        "names of the columns of a table to model, by commas; empty: all that hold numbers, "
        "categories, dates or times",
    )
    categories: str = _setting(
        "",
        "data",
        "names of columns of a table that are categories whatever they hold, by commas: integers "
        "that are codes",
    )
    numbers: str = _setting(
        "",
        "data",
        "names of columns of a table that must be numbers, by commas: a text among them is refused",
    )
    max_categories: int = _setting(
        100,
        "data",
        "different texts in a column of a table, at most; one with more is left out",
        at_least=2,
        below=10_001,
    )
    delimiter: str = _setting(
        "",
        "data",
        "the character between columns of a CSV table, \\t for a tab; empty: what the file shows",
    )
    decimal: str = _setting(
        "",
        "data",
        "what stands before the decimals of a CSV table's numbers, a dot or a comma; empty: what "
        "the file shows",
        choices=("", ".", ","),
    )
    condition_on: str = _setting(
        "",
        "data",
        "name of the label to learn p(x given its class) by; empty: p(x). Digits have label, sets "
        "of TensorFlow Datasets their class label, tables a column. A .npz file has an array NAME, "
        "or with splits train_NAME and test_NAME; of y_train and y_test beside x_train and x_test "
        "the name is y",
    )
    impute: bool = _setting(
        False,
        "data",
        "fill missing values of a table with others of their column, drawn at random; else refuse "
        "them",
    )
    resize: tuple[int, ...] = _setting(
        (),
        "data",
        "height,width that all pictures of a folder are brought to; empty: they must be of one "
        "size",
    )
    skip_bad: bool = _setting(
        False, "data", "leave out pictures that cannot be decoded, naming them; else stop"
    )
    data_dir: str = _setting(
        "",
        "data",
        "where TensorFlow Datasets keeps prepared sets, and where TFRecord files and other large "
        "sets are copied to, row by row; empty: its own default folder, and ~/.cache/nice_tf",
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
        "arrays of more MB stay on disk and are read batch by batch, with the same results; .npz "
        "files never do",
        changes_result=False,
        at_least=0,
    )
    levels: int = _setting(
        0,
        "data",
        "number of integer levels of the data; 0: 256 for uint8 arrays, none for floating-point "
        "arrays",
        at_least=0,
    )
    num_validation: int = _setting(
        0, "data", "examples split from train for validation; 0: one sixth of train", at_least=0
    )
    split_seed: int = _setting(
        0,
        "data",
        "seed of the random split of digits and of arrays, kept apart from --seed so that runs "
        "compare",
        at_least=0,
    )
    test_rows: str = _setting(
        "held_out",
        "data",
        "what the result is of: examples held out of training; or those of validation, so that "
        "all of an array or table are for train and validation. It is then a little too good: the "
        "best epoch was chosen on them",
        choices=choices.TEST_ROWS,
    )
    weights: str = _setting(
        "",
        "data",
        "a .npy file with a weight of at least 0 for each example of one array or table: in the "
        "training loss and the validation likelihood that chooses the epoch. Examples of weight 0 "
        "are not in the marginals and the start either, others count once there, and once in the "
        "result; empty: all count alike",
    )
    dequantization: str = _setting(
        "uniform",
        "data",
        "noise on integer data: fresh U[0,1) per value, or none",
        choices=choices.DEQUANTIZATIONS,
    )

    num_couplings: int = _setting(
        4, "model", "number of additive coupling layers", at_least=1, below=1001
    )
    hidden_units: tuple[int, ...] | tuple[tuple[int, ...], ...] = _setting(
        (1000,) * 5,
        "model",
        "widths of the hidden layers of each m, by commas; with slashes one such list for each "
        "coupling: 20,20/20/9",
    )
    activation: str = _setting(
        "relu",
        "model",
        "activation of the hidden layers",
        choices=choices.ACTIVATIONS,
    )
    residual: bool = _setting(
        False,
        "model",
        "add the input of each layer between hidden ones of equal width to its output",
    )
    conditioner: str = _setting(
        "mlp",
        "model",
        "kind of each m: fully connected of --hidden_units; or for pictures a convolution, "
        "residual, with --hidden_units only where a nested partition's picture has become too "
        "small for it",
        choices=choices.CONDITIONERS,
    )
    channels: int = _setting(
        48, "model", "of --conditioner=convolution, of each hidden layer", at_least=1
    )
    residual_blocks: int = _setting(
        2, "model", "of --conditioner=convolution, each of two convolutions", at_least=1, below=1001
    )
    kernel_size: int = _setting(
        3,
        "model",
        "of --conditioner=convolution, odd: on a side, in blocks of 2 x 2 pixels",
        at_least=1,
        below=1001,
    )
    input_range: str = _setting(
        "unit",
        "model",
        "scale on which the first layers put x (its log-det is counted): that of [0, 1] for unit, "
        "of [-1, 1] for symmetric",
        choices=choices.INPUT_RANGES,
    )
    whitening: str = _setting(
        "none",
        "model",
        "linear layer before the couplings, fitted to the training data: mean and deviation of "
        "each value, zca, a triangular matrix that is then trained, too, or for tables standardize "
        "and then that",
        choices=choices.WHITENINGS,
    )
    whitening_epsilon: float = _setting(
        0.0,
        "model",
        "floor of the covariance's eigenvalues in zca, in squared density units (values on [0, "
        "1]); 0: none",
        at_least=0,
    )
    partition: str = _setting(
        "interleaved",
        "model",
        "which coordinates form the two halves; checkerboard is for pictures, "
        "checkerboard_channels for those in colour, whose board changes from channel to channel; "
        "nested: each coupling shifts half of what none has shifted yet, given the rest of it",
        choices=choices.PARTITIONS,
    )
    mixing: str = _setting(
        "swap", "model", "what happens between couplings", choices=choices.MIXINGS
    )
    prior: str = _setting(
        "logistic",
        "model",
        "density of each latent coordinate; logistic_mixture: several logistics, with weights, "
        "locations and scales that are trained",
        choices=choices.PRIORS,
    )
    prior_components: int = _setting(
        8, "model", "of --prior=logistic_mixture", at_least=2, below=1001
    )
    prior_clusters: int = _setting(
        1,
        "model",
        "of --prior=logistic_mixture: clusters of codes, each with its own weights of the "
        "logistics of a coordinate, so that the spread of a value depends on the others; 1 for "
        "independent coordinates",
        at_least=1,
        below=1001,
    )
    prior_patch: int = _setting(
        0,
        "model",
        "of several --prior_clusters of pictures: side of the square patches that have clusters "
        "each, as contrast differs from patch to patch; 0: one cluster for the whole picture",
        at_least=0,
    )
    marginals: str = _setting(
        "none",
        "model",
        "a monotone map of each coordinate by itself in front of all other layers, fitted to the "
        "training data. quantile: through its distribution function to quantiles of the prior's "
        "family. trained: the same, and the masses of its bins are trained from there on",
        choices=choices.MARGINALS,
    )
    conditioner_input: str = _setting(
        "mapped",
        "model",
        "what m sees of the coordinates that a coupling passes on: as the marginals map them, or "
        "taken back to values of the data",
        choices=choices.CONDITIONER_INPUTS,
    )
    scaling: str = _setting(
        "layer",
        "model",
        "diagonal scaling as a layer, as trainable scales of the prior (the same density), or none",
        choices=choices.SCALINGS,
    )
    output_scale: str = _setting(
        "deviation",
        "model",
        "factor on the outputs of m, not trained: with --data_init the deviation of each shifted "
        "coordinate in the training data, so that all are learned at a like pace; or one. Both can "
        "become the same densities",
        choices=choices.OUTPUT_SCALES,
    )
    kernel_init: str = _setting(
        "he_normal",
        "model",
        "start of the kernels of m: N(0, 2 / fan_in), or uniform on [-R, R], R of --init_range",
        choices=choices.KERNEL_INITS,
    )
    init_range: float = _setting(0.01, "model", "of --kernel_init=uniform", above=0)
    zero_last_layer: bool = _setting(
        True, "model", "start each m at zero, so that the first step sees exact scales"
    )
    data_init: bool = _setting(
        True,
        "model",
        "start the mean, 1/s and --output_scale=deviation from the training data's mean and "
        "deviation",
    )
    allow_incomplete_mixing: bool = _setting(
        False, "model", "build also a flow in which some z cannot depend on some x"
    )
    precision: str = _setting(
        "auto",
        "model",
        "of variables and densities; bfloat16: float32, but the matrix products of m in bfloat16 "
        "while training; auto: bfloat16 where the hardware multiplies it, else float32",
        choices=choices.PRECISIONS,
    )

    epochs: int = _setting(100, "training", "passes over the training examples", at_least=1)
    batch_size: int = _setting(
        200,
        "training",
        "examples per step; 0: a hundredth of the training examples, from 32 to 1,000",
        at_least=0,
    )
    optimizer: str = _setting(
        "adam",
        "training",
        "adam, or rmsprop as in the code released with the paper, with momentum and epsilon as the "
        "root's floor",
        choices=choices.OPTIMIZERS,
    )
    learning_rate: float = _setting(1e-3, "training", "after warm-up", above=0)
    schedule: str = _setting(
        "constant",
        "training",
        "learning rate after warm-up: cosine falls to 0, exponential is divided by "
        "--learning_rate_decay each step",
        choices=choices.SCHEDULES,
    )
    warmup_steps: int = _setting(
        0, "training", "steps over which the learning rate rises, in equal parts", at_least=0
    )
    learning_rate_decay: float = _setting(
        1.0005, "training", "divisor per step of --schedule=exponential", at_least=1
    )
    min_learning_rate: float = _setting(
        1e-4, "training", "where --schedule=exponential stops falling", at_least=0
    )
    beta_1: float = _setting(
        0.9, "training", "Adam's decay per step of the mean gradient", at_least=0, below=1
    )
    beta_2: float = _setting(
        0.99,
        "training",
        "decay per step of the mean squared gradient, for both optimizers",
        at_least=0,
        below=1,
    )
    epsilon: float = _setting(
        1e-4,
        "training",
        "Adam's epsilon, or the floor of RMSProp's root mean squared gradient",
        above=0,
    )
    momentum: float = _setting(0.0, "training", "of RMSProp", at_least=0, below=1)
    momentum_start_epoch: int = _setting(
        0, "training", "epochs of RMSProp without its momentum, at the start", at_least=0
    )
    weight_decay: float = _setting(
        0.0,
        "training",
        "decoupled decay per step of the kernels of m, times the learning rate",
        at_least=0,
    )
    gradient_clip_norm: float = _setting(
        0.0, "training", "largest global norm of the gradient; 0: not clipped", at_least=0
    )
    dropout: float = _setting(
        0.0,
        "training",
        "share of the hidden units of m that each training step leaves out",
        at_least=0,
        below=1,
    )
    max_shift: int = _setting(
        0,
        "training",
        "pixels by which a training picture may be moved up, down, left and right; 0: not moved",
        at_least=0,
    )
    shift_share: float = _setting(
        0.0,
        "training",
        "share of the epochs, at the start, with --max_shift; others see the pictures as they are",
        at_least=0,
        below=1,
    )
    mirror: bool = _setting(
        False,
        "training",
        "mirror each training picture left to right with probability 1/2; marginals, whitening and "
        "scales are fitted to both",
    )
    ema_decay: float = _setting(
        0.0,
        "training",
        "decay per step of the averaged weights that validation and all results then use; 0: off",
        at_least=0,
        below=1,
    )
    early_stopping_epochs: int = _setting(
        0,
        "training",
        "stop after so many epochs without a better validation log-likelihood; 0: never",
        at_least=0,
    )
    seed: int = _setting(0, "training", "of weights, data order, noise and samples", at_least=0)
    deterministic: bool = _setting(
        False, "training", "only deterministic operations: same seed, same bits; slower"
    )
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
        at_least=0,
    )
    strategy: str = _setting(
        "auto",
        "training",
        "who shares each batch: one device for none, all GPUs of this machine for mirrored, the "
        "machines in the environment variable TF_CONFIG for multi_worker; auto: what there is",
        choices=choices.STRATEGIES,
        changes_result=False,
    )

    num_draws: int = _setting(
        10,
        "results",
        "noise draws averaged in the test log-likelihood of each example",
        changes_result=False,
        at_least=1,
    )
    sample_every_epochs: int = _setting(
        5,
        "results",
        "epochs between sample pictures; 0: only at the end",
        changes_result=False,
        at_least=0,
    )
    temperature: float = _setting(
        1.0, "results", "of the samples: factor on the prior's draw", changes_result=False, above=0
    )

    def __post_init__(self):
        for name in ("hidden_units", "resize"):
            object.__setattr__(self, name, _as_tuple(name, getattr(self, name)))
        for field in dataclasses.fields(self):
            _check_value(field.name, getattr(self, field.name), type(field.default), field.metadata)
        self._check_units()
        self._check_delimiter()
        if self.resize and (len(self.resize) != 2 or not all(map(_is_size, self.resize))):
            raise UserError(
                f"resize must be height,width of at least 1, got {self.flag_text('resize')}"
            )
        if math.prod(self.resize) > MAX_PIXELS:
            raise UserError(
                f"resize must give at most {MAX_PIXELS:,} pixels, got {self.flag_text('resize')}"
            )
        self._check_what_goes_together()

    def _check_units(self):
        units: Any = self.hidden_units
        per_coupling = any(isinstance(part, tuple) for part in units)
        lists = (units,)
        if per_coupling:
            lists = units
        sizes = [size for part in lists for size in part]
        got = f"got {self.as_dict()['hidden_units']}"
        if not all(_is_whole(size) and size >= 1 for size in sizes):
            raise UserError(f"hidden_units must all be at least 1, {got}")
        if not all(map(_is_size, sizes)):
            raise UserError(f"hidden_units must all be below {_BELOW}, {got}")
        if per_coupling and len(lists) != self.num_couplings:
            raise UserError(
                f"hidden_units has {len(lists)} lists for {self.num_couplings} couplings: give one "
                "for each, or a single one for all"
            )

    def _check_delimiter(self):
        as_character = self.delimiter.replace("\\t", "\t")  # a flag spells it so
        object.__setattr__(self, "delimiter", as_character)
        if self.delimiter and not re.fullmatch(r"[\t !#-*,/:-@\[-`{-~]", self.delimiter):
            raise UserError(
                "delimiter must be one character of ASCII that is no letter, no digit, no quote "
                f"and no part of a number, got {self.delimiter!r}"
            )

    def _check_what_goes_together(self):
        if self.whitening_epsilon and self.whitening != "zca":
            raise UserError(
                f"whitening_epsilon is for whitening zca, got {self.whitening_epsilon} with "
                f"whitening {self.whitening}"
            )
        if self.marginals != "none" and self.dequantization == "none":
            raise UserError(
                f"marginals {self.marginals} need dequantization uniform, got none: values without "
                "noise have a distribution function of jumps, which no monotone map can follow: "
                "give marginals none"
            )
        if self.conditioner_input == "values" and self.marginals == "none":
            raise UserError(
                "conditioner_input values is for marginals quantile or trained: without them m "
                "sees values anyway"
            )
        for name in ("channels", "residual_blocks", "kernel_size"):
            value = getattr(self, name)
            if value != getattr(Config, name) and self.conditioner != "convolution":
                raise UserError(
                    f"{name} is for conditioner convolution, got {value} with conditioner "
                    f"{self.conditioner}"
                )
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be odd, got {self.kernel_size}")
        is_mixture = self.prior == "logistic_mixture"
        for name in ("prior_components", "prior_clusters"):
            value = getattr(self, name)
            if value != getattr(Config, name) and not is_mixture:
                raise UserError(
                    f"{name} is for prior logistic_mixture, got {value} with prior {self.prior}: "
                    f"give {name} {getattr(Config, name)}"
                )
        if self.prior_patch and self.prior_clusters == 1:
            raise UserError(
                f"prior_patch is for several prior_clusters, got {self.prior_patch} with "
                "prior_clusters 1: give prior_patch 0"
            )
        if is_mixture and self.scaling == "prior":
            raise UserError(
                "scaling must be layer or none with prior logistic_mixture, got prior: each "
                "component has a scale of its own"
            )
        if bool(self.max_shift) != bool(self.shift_share):
            raise UserError(
                f"max_shift and shift_share go together, got max_shift {self.max_shift}, "
                f"shift_share {self.shift_share}"
            )
        if self.schedule == "exponential" and self.warmup_steps:
            raise UserError(
                f"schedule exponential has no warm-up, got warmup_steps {self.warmup_steps}"
            )
        if self.levels == 1:
            raise UserError(
                "levels must be at least 2 (or 0 to take it from the data's type), got 1"
            )

    def check_is_unconditional(self, what: str) -> None:
        """Checks that the density takes no labels, for what can give it none.

        Args:
          what: the run, for the message.

        Raises:
          UserError: it takes some.
        """
        if self.condition_on:
            raise UserError(
                f"{what} has condition_on {self.condition_on}: this command asks for p(x) alone, "
                "without labels: train without condition_on"
            )

    @property
    def column_names(self) -> list[str]:
        """The names of `columns`; one with a comma in it stands in double quotes."""
        return _names_in(self.columns)

    @property
    def category_names(self) -> list[str]:
        """The names of `categories`, as `column_names`."""
        return _names_in(self.categories)

    @property
    def number_names(self) -> list[str]:
        """The names of `numbers`, as `column_names`."""
        return _names_in(self.numbers)

    @property
    def widths_by_coupling(self) -> tuple[tuple[int, ...], ...]:
        """The hidden widths of each m, `hidden_units` written out."""
        widths: Any = self.hidden_units
        if widths and isinstance(widths[0], tuple):
            return widths
        return (widths,) * self.num_couplings

    @property
    def prior_text(self) -> str:
        """The prior, for a sentence."""
        if self.prior == "logistic_mixture":
            text = f"prior of {self.prior_components} logistics per coordinate"
            if self.prior_clusters > 1:
                text += f" in {self.prior_clusters} clusters"
            if self.prior_patch:
                text += f" per patch of {self.prior_patch} x {self.prior_patch}"
            return text
        return f"{self.prior} prior"

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
            raise UserError(
                f"unknown settings {', '.join(unknown)}: written by another version of nice_tf?"
            )
        return cls(**{"output_scale": "one"} | values)

    def result_text(self) -> str:
        """The settings that change a result, as JSON."""
        kept = {
            field.name for field in dataclasses.fields(self) if field.metadata["changes_result"]
        }
        return json.dumps({name: value for name, value in self.as_dict().items() if name in kept})

    def differences(self, other: "Config") -> list[str]:
        """Lines `name: mine, where the run has theirs` for the settings that change a result and
        differ from those of a run.
        """
        return [
            f"{field.name}: {getattr(self, field.name)!r}, where the run has "
            f"{getattr(other, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.metadata["changes_result"]
            and getattr(self, field.name) != getattr(other, field.name)
        ]


def _as_tuple(name, value):
    """A list of numbers, or of lists of them, as tuples."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UserError(f"{name} must be a list of whole numbers, got {value!r}")
    parts = tuple(tuple(part) if isinstance(part, list | tuple) else part for part in value)
    if len({isinstance(part, tuple) for part in parts}) > 1:
        raise UserError(
            f"{name} must be a list of whole numbers or a list of such lists, got {value!r}"
        )
    return parts


def _names_in(text):
    """Names by commas."""
    names = next(csv.reader([text], skipinitialspace=True), [])
    return [name.strip() for name in names if name.strip()]


def _is_size(value):
    return _is_whole(value) and 1 <= value < _BELOW


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _check_value(name, value, kind, metadata):
    """Refuses a value of another type than the default's, or out of the bounds that stand beside
    it.
    """
    if metadata["choices"]:
        check_choice(name, value, metadata["choices"])
    elif kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{name} must be true or false, got {value!r}")
    elif kind is str:
        _check_text(name, value)
    elif kind is int:
        _check_whole(name, value, metadata)
    elif kind is float:
        _check_float(name, value, metadata)


def _check_text(name, value):
    if not isinstance(value, str):
        raise UserError(f"{name} must be text, got {value!r}")
    is_encodable = not any(
        "\ud800" <= character <= "\udfff" for character in value
    )  # bytes that are no UTF-8
    if "\0" in value or not is_encodable:
        raise UserError(f"{name} must be text in UTF-8 without zero bytes, got {value!r}")


def _check_whole(name, value, metadata):
    at_least, below = metadata["at_least"], metadata["below"] or _BELOW
    if not _is_whole(value):
        raise UserError(f"{name} must be a whole number, got {value!r}")
    if value < at_least:
        raise UserError(f"{name} must be at least {at_least}, got {_written(value)}")
    if value >= below:
        raise UserError(f"{name} must be below {below}, got {_written(value)}")


def _written(value):
    return str(value) if value.bit_length() < 128 else f"a number of {value.bit_length()} bits"


def _check_float(name, value, metadata):
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{name} must be a number, got {value!r}")
    at_least, above, below = metadata["at_least"], metadata["above"], metadata["below"]
    kept = _in_float32(value)
    is_within = (at_least is None or kept >= at_least) and (above is None or kept > above)
    if is_within and kept < (math.inf if below is None else below):
        return
    if above is not None:
        rule = f"a finite number above {above}"
    elif below is not None:
        rule = f"at least {at_least} and below {below}"
    else:
        rule = f"at least {at_least}" + " and finite" * (kept == math.inf)
    rounded = f" ({kept} in float32)" if kept != value and kept in (0, 1, math.inf) else ""
    raise UserError(f"{name} must be {rule}, got {value}{rounded}")


def _in_float32(value):
    """A number as TensorFlow will keep it: of a very small one 0 is left, of a very large one
    infinity.
    """
    try:
        return ctypes.c_float(value).value
    except OverflowError:  # a whole number that no float can hold
        return math.inf
