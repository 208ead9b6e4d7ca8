"""`nice-tf NAME ...`: all commands behind one, listed without starting any of them."""

import difflib
import sys

from nice_tf.cli.command import HELP, run_app
from nice_tf.version import __version__

# Each is the module of nice_tf/apps of its name. In the order in which a user meets them.
COMMANDS = {
    "configs": "writes the flag files of the package as a folder configs",
    "train": "trains on pictures, arrays or a table, and evaluates",
    "report": "writes one page about a finished run",
    "figures": "draws the paper's figures of a finished run",
    "inpaint": "fills hidden parts of pictures",
    "score": "says how usual each row or example is",
    "impute": "fills the missing values of a table",
    "sample": "draws new rows, arrays or a picture",
    "export": "writes a SavedModel for TensorFlow Serving",
    "score_beam": "scores by Apache Beam, on many machines",
    "noise_experiment": "trains with and without dequantization noise, side by side",
}


def main() -> None:
    """Runs the command that the first argument names, with the others as its own."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in HELP:
        print(_overview())
        return
    name = arguments[0]
    if name == "--version":
        print(f"nice_tf {__version__}")
        return
    if name not in COMMANDS:
        sys.exit(f"error: {_unknown(name)}")
    sys.argv = [f"nice-tf {name}", *arguments[1:]]
    run_app(name)


def _overview():
    width = max(len(name) for name in COMMANDS)
    lines = [
        "NICE: exact densities, samples and scores of your own data.",
        "",
        "nice-tf COMMAND --NAME=VALUE ...",
        "",
    ]
    for name, text in COMMANDS.items():
        lines.append(f"  {name:{width}}  {text}")
    lines += ["", "nice-tf COMMAND --help lists the flags of one, nice-tf --version the version."]
    return "\n".join(lines)


def _unknown(name):
    if name.startswith("-"):
        return f"the command stands first, then its flags, got {name}; see nice-tf --help"
    message = f"there is no command {name!r}"
    similar = difflib.get_close_matches(name, COMMANDS, n=1)
    if similar:
        message += f", perhaps {similar[0]}"
    return f"{message}; see nice-tf --help"
