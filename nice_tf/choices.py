"""The names that a setting can have, each list once: for `Config`, its flags, the layers and the
commands.
"""

ACTIVATIONS = ("relu", "elu", "gelu", "silu", "softplus", "tanh")
CONDITIONERS = ("mlp", "convolution")
CONDITIONER_INPUTS = ("mapped", "values")
DEQUANTIZATIONS = ("uniform", "none")
FAMILIES = ("logistic", "normal")
INPUT_RANGES = ("unit", "symmetric")
KERNEL_INITS = ("he_normal", "uniform")
MIXINGS = ("swap", "reverse", "shuffle")
OUTPUT_SCALES = ("deviation", "one")
MARGINALS = ("none", "quantile", "trained")
PARTITIONS = ("interleaved", "halves", "checkerboard", "checkerboard_channels", "nested")
PRIORS = ("logistic", "gaussian", "logistic_mixture")
SCALINGS = ("layer", "prior", "none")
WHITENINGS = ("none", "standardize", "zca", "triangular", "standardize_triangular")

OPTIMIZERS = ("adam", "rmsprop")
PRECISIONS = ("auto", "float32", "float64", "bfloat16")
SCHEDULES = ("constant", "cosine", "exponential")
STRATEGIES = ("auto", "none", "mirrored", "multi_worker")
TEST_ROWS = ("held_out", "validation")

# By which of its scores a row is flagged.
ANOMALY_SCORES = ("density", "ranks")

INTERPOLATIONS = ("linear", "spherical")

# What is hidden in each row of the figure of Dinh et al. 2014, section 5.2.
MASKS = (
    "top",
    "bottom",
    "even",
    "odd",
    "left",
    "right",
    "middle_rows",
    "middle_columns",
    "random_75",
    "random_90",
)

# The figures of a run, in the order of its report.
FIGURES = (
    "spectrum",
    "reconstruction",
    "interpolation",
    "sphere",
    "sphere_3",
    "temperatures",
    "inpainting",
)
