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
    values = command.required("workdir", *others)
    run = Workdir(values[0])
    run.read_config()
    run.finished_evaluation()
    return _loading(values)


def model(*others: str) -> list[str]:
    """The value of --model, the folder of a finished run or of an export, and those of other
    needed flags.

    Raises:
      UserError: one of them was not given, or the folder is that of a run that is not finished.
    """
    values = command.required("model", *others)
    run = Workdir(values[0])
    if run.config.exists():  # else an export
        run.finished_evaluation()
    return _loading(values)


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


def _loading(values):
    command.tell(f"loading TensorFlow and {values[0]} ...")
    return values
