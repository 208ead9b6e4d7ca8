"""What commands share: grouped help, a quiet start of TensorFlow, one message for a mistake."""

import contextlib
import logging
import os
import pathlib
import runpy
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging

from nice_tf import interrupts
from nice_tf.choices import ANOMALY_SCORES
from nice_tf.cli.messages import with_dashes
from nice_tf.errors import UserError

HELP = ("--help", "-help", "-h", "--helpshort", "-helpshort")


def run(
    main: Callable[..., None],
    *,
    usage: str,
    groups: Sequence[str],
    passes_on: bool = False,
    when_interrupted: Callable[[], str] | None = None,
) -> None:
    """Parses the flags and calls `main`, then exits.

    The status is 0 when it returns, 1 after a `UserError`, 130 after Ctrl-C, 143 after SIGTERM.

    Args:
      main: the command, without arguments, or with those that are passed on.
      usage: what `--help` prints first.
      groups: names of the flag groups that `--help` lists, in this order.
      passes_on: give flags that are none of ours to `main`, as a list, instead of refusing them.
      when_interrupted: what else can be done with what was saved, in one line.
    """
    for group in groups:
        for flag in flags.FLAGS.get_flags_for_module(group):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)

    def parse(argv: list[str]) -> list[str]:
        if not set(HELP).isdisjoint(argv[1:]):
            _print_help(usage, groups)
            sys.exit(0)
        return _parse(argv, passes_on)

    def guarded(argv: list[str]) -> None:
        arrived = _Interrupts()
        try:
            with _log_shown():
                if passes_on:
                    main(argv[1:])
                else:
                    main()
        except (Exception, KeyboardInterrupt) as error:
            number = arrived.end(error)
            if number is not None:
                _exit_interrupted(number, when_interrupted)
            if isinstance(error, UserError):
                sys.exit(f"error: {with_dashes(str(error), _names(groups))}")
            raise
        arrived.end()

    app.run(guarded, flags_parser=parse)


def tell(text: str) -> None:
    """Says on a terminal what takes a while; files and pipes have the results alone."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def _names(groups):
    found = []
    for group in groups:
        for flag in flags.FLAGS.get_flags_for_module(group):
            found.append(flag.name)
    return found


def _print_help(usage, groups):
    print(usage)
    for group in groups:
        print(flags.FLAGS.module_help(group))
    print(
        "\nAlso --flagfile=FILE (flags from a file, one per line), --verbosity=0 or more "
        "(TensorFlow's own messages), --helpfull (every flag of every library)."
    )


def _parse(argv, passes_on):
    try:
        rest = flags.FLAGS(argv, known_only=passes_on)
    except flags.Error as error:
        sys.exit(f"error: {str(error).removeprefix('ERROR:: ')}")
    for argument in rest[1:]:
        if passes_on and argument.startswith("--"):
            continue
        sys.exit(
            f"error: unexpected argument {argument!r}; settings are written --name=value, "
            "see --help"
        )
    return rest


def _exit_interrupted(number: int, what_else: Callable[[], str] | None) -> NoReturn:
    word = "interrupted"
    if number == signal.SIGTERM:
        word = "terminated"
    lines = [f"\n{word}; the same command continues from what was saved last, if anything was"]
    if what_else:
        lines.append(what_else())
    print("\n".join(lines), file=sys.stderr)
    sys.exit(128 + number)


@contextlib.contextmanager
def _log_shown():
    """What the library logs comes out between the lines that a command prints."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_AsLines())
    logger = logging.getLogger("nice_tf")
    propagate = logger.propagate
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl would write it once more, to standard error
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _AsLines(logging.Formatter):
    def format(self, record):
        """A line for the user, which says whether it is a warning."""
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            return f"warning    {message}"
        return message


class _Interrupts:
    """Ctrl-C and SIGTERM unwind what a command has open, so that temporary files are removed.

    The exception that a handler raises can get lost in TensorFlow's C++ code, or come out as
    another one. So the signal is noted, and the exception is raised once more each second in which
    it is not on its way.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._arrived)

    def end(self, error: BaseException | None = None) -> int | None:
        """The number of the signal that came, or `None`.

        A KeyboardInterrupt that is raised without a signal counts as Ctrl-C.
        """
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._number is None and isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        return self._number

    def _arrived(self, number: int, frame: types.FrameType | None) -> None:
        self._number = number
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)  # a second one must not stop the clearing up
        signal.signal(signal.SIGALRM, self._again)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        raise KeyboardInterrupt

    def _again(self, number: int, frame: types.FrameType | None) -> None:
        # Else something is being unwound.
        if sys.exc_info()[1] is None:
            raise KeyboardInterrupt


def run_app(name: str) -> None:
    """Runs `nice_tf.apps.NAME` as `python -m` does."""
    runpy.run_module(f"nice_tf.apps.{name}", run_name="__main__", alter_sys=True)


def run_named() -> None:
    """Runs the app that this program is named after: `nice-train` runs `nice_tf.apps.train`.

    These names are from before `nice-tf`, and go with version 0.3.
    """
    run_app(pathlib.Path(sys.argv[0]).stem.removeprefix("nice-"))


def define_run_flags(group: str) -> None:
    """The flags of every command about a finished run."""
    flags.DEFINE_string("workdir", "", "folder of the finished run", module_name=group)
    for name in ("data_dir", "manual_dir"):
        flags.DEFINE_string(
            name, "", f"as for nice-tf train; empty: the run's own {name}", module_name=group
        )


def define_model_flags(group: str) -> None:
    """The flags of every command that asks a trained model, from a run or an export."""
    flags.DEFINE_string(
        "model", "", "workdir of a finished run, or folder of an export", module_name=group
    )
    flags.DEFINE_string(
        "output", "", "the file to write; its suffix says of which kind", module_name=group
    )
    flags.DEFINE_bool(
        "overwrite",
        False,
        "replace an output that is there, and drop what a run of other settings left unfinished",
        module_name=group,
    )


def define_input_flag(group: str) -> None:
    """The flag of commands that read what the model is asked about."""
    flags.DEFINE_string(
        "input",
        "",
        "a table (.csv, .parquet), as file, folder or pattern, with the columns of training in any "
        "order; for a model of arrays a .npy file, a .npz file of one array, .tfrecord files, or a "
        "folder of pictures",
        module_name=group,
    )


def define_score_flags(group: str) -> None:
    """The flags of every command that scores."""
    flags.DEFINE_integer(
        "top",
        None,
        "how many columns to name that make a row unusual: 3 for tables if not given, 0 for none; "
        "it takes as many times the work of scoring as there are columns",
        module_name=group,
    )
    flags.DEFINE_float(
        "threshold",
        0.01,
        "largest tail_probability of what is flagged as is_anomaly",
        module_name=group,
    )
    flags.DEFINE_enum(
        "by",
        "density",
        ANOMALY_SCORES,
        "the score that flags a row and names its columns: density for tail_probability and "
        "log_prob, ranks for rank_tail_probability and rank_log_prob",
        module_name=group,
    )
    flags.DEFINE_list(
        "keep", "", "names of columns of a table to pass on, by commas", module_name=group
    )
    flags.DEFINE_bool(
        "impute",
        False,
        "fill missing values first and say how many in num_imputed; else refuse them",
        module_name=group,
    )


def required(*names: str) -> list[str]:
    """The values of flags that must be given.

    Raises:
      UserError: one or more were not; all of them are named.
    """
    values = [flags.FLAGS[name].value or "" for name in names]
    missing = [f"--{name}" for name, value in zip(names, values, strict=True) if not value]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        *others, last = missing
        named = f"{', '.join(others)} and {last}" if others else last
        raise UserError(f"{named} {verb} needed, see --help")
    return values


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Holds back what TensorFlow writes to standard error while it is imported.

    Not where --verbosity was given. Its C++ libraries write before any logging can be set up, hence
    by file descriptor. What was held back is written out when the import fails.
    """
    # Else TensorFlow imports Keras 3 beside tf_keras, which takes a quarter of the start.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if flags.FLAGS["verbosity"].present:
        with interrupts.held_back():
            yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    absl_logging.set_verbosity(absl_logging.ERROR)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held_back:
        original = os.dup(2)
        os.dup2(held_back.fileno(), 2)
        try:
            with interrupts.held_back():
                yield
        except Exception:
            held_back.seek(0)
            os.write(original, held_back.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
