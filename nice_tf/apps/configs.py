"""Writes the flag files that come with the package as a folder configs, for --flagfile=configs/NAME.flags.
A clone of the repository has it already.

nice-tf configs
nice-tf configs --output_dir=elsewhere/configs
"""

import pathlib
import shutil

from absl import flags

from nice_tf.cli import command
from nice_tf.cli.config_flags import shipped_configs
from nice_tf.errors import UserError
from nice_tf.files import temporary_folder

flags.DEFINE_string(
    "output_dir", "configs", "the folder, which must not be there yet", module_name="configs"
)


def main() -> None:
    """Copies the folder."""
    output = pathlib.Path(flags.FLAGS.output_dir)
    try:
        with temporary_folder(output.absolute().parent, f".{output.name}.unfinished-") as temporary:
            shutil.copytree(
                shipped_configs(),
                temporary,
                ignore=shutil.ignore_patterns("__pycache__"),
                dirs_exist_ok=True,
            )
            if output.exists():
                raise UserError(
                    f"--output_dir must name a folder that does not exist yet, got {output}; a clone of "
                    "the repository has the flag files in configs already"
                )
            temporary.rename(output)
    except OSError as error:
        raise UserError(
            f"--output_dir {output} cannot be written ({error.strerror or error})"
        ) from error
    for path in sorted(output.rglob("*.flags")):
        print(path)


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["configs"])
