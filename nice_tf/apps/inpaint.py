"""Fills hidden parts of validation examples of a finished run: original | masked | filled.

nice-tf inpaint --workdir=runs/digits
nice-tf inpaint --workdir=runs/digits --masks=top,random_90 --num_images=5 --output=filled.png
nice-tf inpaint --workdir=runs/digits --mask_file=mask.npy
"""

import pathlib

from absl import flags

from nice_tf.apps import asked
from nice_tf.choices import MASKS
from nice_tf.cli import command
from nice_tf.errors import UserError

command.define_run_flags("inpaint")
flags.DEFINE_list(
    "masks",
    "",
    f"what is hidden, by commas: {', '.join(MASKS)}; empty: all ten of the paper, or the --mask_file",
    module_name="inpaint",
)
flags.DEFINE_string(
    "mask_file",
    "",
    "a .npy file with 1 where a value is observed and 0 where it is hidden",
    module_name="inpaint",
)
flags.DEFINE_integer("num_images", 10, "how many examples", lower_bound=1, module_name="inpaint")
flags.DEFINE_integer("num_steps", 200, "steps uphill", lower_bound=1, module_name="inpaint")
flags.DEFINE_float(
    "noise", 0.0, "deviation of the noise of a step", lower_bound=0.0, module_name="inpaint"
)
flags.DEFINE_string(
    "output", "", "the picture; empty: inpainting.png in the workdir", module_name="inpaint"
)


def main() -> None:
    """Writes the picture."""
    values = flags.FLAGS
    (workdir,) = asked.workdir()
    with command.quiet_tensorflow():
        from nice_tf import drawing
        from nice_tf.data import arrays
        from nice_tf.flows.inpainting import check_mask, make_mask
        from nice_tf.reports import figures
        from nice_tf.runs import finished
    run = finished.load_finished_run(
        workdir, data_dir=values.data_dir, manual_dir=values.manual_dir
    )
    shape = run.data.event_shape
    if not drawing.is_image(shape):
        hint = ": nice-tf impute fills tables" if run.data.schema else ""
        raise UserError(f"in-painting draws pictures, the examples have shape {shape}{hint}")
    masks = {name: make_mask(name, shape, seed=run.config.seed) for name in values.masks}
    if values.mask_file:
        mask = arrays.read_array(values.mask_file, f"--mask_file {values.mask_file}")
        masks[values.mask_file] = check_mask(mask, shape)
    grid = figures.inpainting(
        run, masks, num_images=values.num_images, num_steps=values.num_steps, noise=values.noise
    )
    path = pathlib.Path(values.output or pathlib.Path(workdir) / "inpainting.png")
    drawing.write_png(path, grid, min_width=1200)
    print(f"{path}: original | masked | filled; rows: {', '.join(masks or MASKS)}")


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["inpaint"])
