"""Exports a finished run for TensorFlow Serving.

nice-tf export --workdir=runs/digits --export_dir=runs/digits/export
python export.py --workdir=runs/digits --export_dir=runs/digits/export  # the same, in the repository
"""

import numpy as np
from absl import flags

from nice_tf.apps import asked
from nice_tf.cli import command

flags.DEFINE_string("workdir", "", "folder of the finished run", module_name="export")
flags.DEFINE_string(
    "export_dir",
    "",
    "folder of the model; the version becomes its next integer",
    module_name="export",
)
flags.DEFINE_integer("inpaint_steps", 100, "steps of the inpaint signature", module_name="export")
flags.DEFINE_float(
    "inpaint_noise", 0.0, "deviation of the noise of the inpaint signature", module_name="export"
)
flags.DEFINE_bool(
    "compile_single",
    False,
    "answer log_prob and sample of single examples through XLA, which is faster on some CPUs; "
    "TensorFlow Serving then needs --xla_cpu_compilation_enabled",
    module_name="export",
)
flags.DEFINE_integer(
    "max_batch",
    0,
    "rows of a request at most, above which it is refused; 0 for any number",
    module_name="export",
)
flags.DEFINE_string(
    "signature",
    "",
    "the one signature that is exported, as serving_default, for servers that take one for a model; "
    "all if empty",
    module_name="export",
)
flags.DEFINE_string(
    "format",
    "saved_model",
    "tflite: a LiteRT model, model.tflite, of log_prob, encode or decode beside the SavedModel",
    module_name="export",
)


def main() -> None:
    """Exports, then samples and scores one batch through the exported model."""
    values = flags.FLAGS
    workdir, export_dir = asked.workdir("export_dir")
    with command.quiet_tensorflow():
        from nice_tf.serving import export, lite, saving, warmup
    print(f"exporting {workdir}: writing the signatures, loading them, trying them ...", flush=True)
    version = export.export_saved_model(
        workdir,
        export_dir,
        inpaint_steps=values.inpaint_steps,
        inpaint_noise=values.inpaint_noise,
        compile_single=values.compile_single,
        max_batch=values.max_batch,
        signature=values.signature or None,
        format=values.format,
    )
    shown = {"sample": "sampled ", "log_prob": "scored  "}
    answers = warmup.replay_warmup(version, only=[*shown, saving.DEFAULT])
    if list(answers) == [saving.DEFAULT]:
        shown = {saving.DEFAULT: "answered"}
    print(
        f"exported {version}, with the server's settings beside it\n\nthrough the exported model:"
    )
    for signature, said in shown.items():
        for name, value in sorted(answers[signature].items()):
            print(f"  {said} {name}", _shown(value))
    if values.format == "tflite":
        difference = lite.largest_difference(version)
        print(f"\n{version / lite.FILE} differs from the flow by {difference:.1e} at most")


def _shown(value):
    """One number for each row as it is, of more the shape."""
    if value.ndim == 1:
        return np.array2string(value, precision=3)
    return f"of shape {list(value.shape)}"


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["export"])
