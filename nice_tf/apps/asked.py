"""The run or model that a command is about, and what it is given, looked at before TensorFlow is
imported.
"""

from nice_tf.cli import command
from nice_tf.errors import UserError
from nice_tf.runs.workdir import Workdir


def workdir(*others: str) -> list[str]:
    """The value of --workdir, the folder of a finished run, and those of other needed flags.

    Raises:
      UserError: one of them was not given, or the run is not finished.
    """
    return _finished("workdir", *others)


def model(*others: str) -> list[str]:
    """The value of --model, the folder of a finished run or of an export, and those of other
    needed flags.

    Raises:
      UserError: one of them was not given, or the folder is that of a run that is not finished.
    """
    return _finished("model", *others)


def parse_given(texts: list[str]) -> dict[str, str]:
    """Texts NAME=VALUE as values by name.

    Raises:
      UserError: one without a name or without a value, or a name that comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not (name and sign and value):
            raise UserError(f"--given must be NAME=VALUE, by commas, got {text!r}")
        if name in found:
            raise UserError(f"--given has {name} twice")
        found[name] = value
    return found


def _finished(name, *others):
    values = command.required(name, *others)
    folder = values[0]
    run = Workdir(folder)
    if run.config.exists():
        run.finished_evaluation()
    command.tell(f"loading TensorFlow and {folder} ...")
    return values
