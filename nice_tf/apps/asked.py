"""The run or model that a command is about, looked at before TensorFlow is imported."""

from nice_tf.cli import command
from nice_tf.runs.workdir import Workdir


def workdir() -> str:
    """The value of --workdir, the folder of a finished run.

    Raises:
      UserError: it was not given, or the run is not finished.
    """
    return _finished("workdir")


def model() -> str:
    """The value of --model, the folder of a finished run or of an export.

    Raises:
      UserError: it was not given, or it is that of a run that is not finished.
    """
    return _finished("model")


def _finished(name):
    value = command.required(name)
    run = Workdir(value)
    if run.config.exists():
        run.finished_evaluation()
    command.tell(f"loading TensorFlow and {value} ...")
    return value
