"""One page about a finished run, in one file: it needs no network and no other file."""

import base64
import contextlib
import csv
import html
import os
import pathlib
import platform
import shlex
from collections.abc import Iterator
from importlib import metadata

from nice_tf import drawing
from nice_tf.config import Config
from nice_tf.errors import UserError
from nice_tf.evaluation.ledger import in_digits, ledger
from nice_tf.files import write_atomically
from nice_tf.reports import figures
from nice_tf.reports.table_scores import TableScores
from nice_tf.reports.tables import MAX_COLUMNS, TableReport
from nice_tf.runs import finished
from nice_tf.runs.workdir import Workdir
from nice_tf.training import devices

_STYLE = pathlib.Path(__file__).with_name("page.css")

_CAPTIONS = {
    "spectrum": "How much the data vary along each latent coordinate, largest first; of whitened "
    "data where the flow whitens.",
    "reconstruction": "Validation examples; the same from their codes in the effective dimension "
    "alone, the other coordinates set to 0; and from a tenth of all coordinates.",
    "interpolation": "Between two validation examples, in latent space: on a line, and below it "
    "on an arc.",
    "sphere": "A randomly turned 2-sphere in latent space, from pole to pole and once round.",
    "sphere_3": "A torus on a randomly turned 3-sphere in latent space; it closes on itself in "
    "both directions.",
    "temperatures": "The same draws at temperature 0.6, 0.7, 0.8, 0.9 and 1.0, from top to bottom.",
    "inpainting": "Validation examples; what is shown of them, hidden values tinted; what gradient "
    "ascent on the log-density fills in. A row for each mask: top, bottom, even, odd, left, right, "
    "middle rows, middle columns, random 75 % and 90 %.",
}
_TITLES = {"sphere": "Latent sphere", "sphere_3": "Latent torus", "inpainting": "In-painting"}
_SAMPLES = {
    "samples.png": "Samples, as they are.",
    "samples_denoised.png": "The same, twenty steps of L-BFGS uphill in density.",
}


def write_report(
    run: finished.FinishedRun, workdir: str | os.PathLike, path: str | os.PathLike
) -> pathlib.Path:
    """Draws every figure that the data allow and writes the page.

    Args:
      run: as `finished.load_finished_run` reads it.
      workdir: its folder.
      path: of the page.

    Returns:
      The path.

    Raises:
      UserError: the page cannot be written, or the run lacks its metrics.
    """
    folder = Workdir(workdir)
    path = pathlib.Path(path)
    with _saying_what_is_damaged(folder.evaluation):
        result = folder.finished_evaluation()
        sections = [_header(run, result), _section("Likelihood", _ledger(result))]
    table = None
    # Columns and rows are compared with samples of p(x), and by it.
    if run.data.schema and not run.data.labels:
        table = TableReport(run)
        scores = TableScores(run)
        sections[-1] = _section("Likelihood", _ledger(result) + _simpler(scores))
        sections.append(_section("Columns", _columns(table)))
    with _saying_what_is_damaged(folder.metrics):
        sections.append(_section("Learning curves", _learning_curves(folder, run)))
    if table:
        sections += _of_columns(table)
        sections += _of_rows(scores)
    pictures = _sample_pictures(folder)
    if pictures:
        sections.append(_section("Samples", _figures(pictures)))
    for name in figures.available(run):
        title = _TITLES.get(name, name.capitalize())
        sections.append(_section(title, _figures([_drawn(run, name)])))
    settings = _settings(run.config, folder.read_chosen())
    commands = html.escape("\n".join(_commands(run, folder)))
    sections.append(_section("Settings", _table(("setting", "value"), settings)))
    sections.append(_section("This page was made with", _table(("", ""), environment())))
    sections.append(_section("Commands", f"<pre>{commands}</pre>"))
    page = _page(f"NICE on {html.escape(run.data.name)}", "\n".join(sections))
    write_atomically(path, page.encode())
    return path


def _page(title, body):
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{_STYLE.read_text()}</style>
</head>
<body>
{body}
</body>
</html>
"""


@contextlib.contextmanager
def _saying_what_is_damaged(path: pathlib.Path) -> Iterator[None]:
    """Names the file of a run that lacks what is to be shown of it, or has something else there."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise UserError(
            f"{path} is damaged or not of nice_tf ({error!r}): restore it, or delete it and run "
            "the training command again"
        ) from error


def environment() -> list[tuple[str, str]]:
    """The machine and the versions at hand."""
    rows = [
        ("CPU", f"{_cpu()}, {devices.cores_in_words()}"),
        ("Python", f"{platform.python_version()} on {platform.system()}"),
    ]
    for name in ("nice_tf", "tensorflow", "tf_keras", "tensorflow-probability", "numpy"):
        rows.append((name, metadata.version(name)))
    return rows


def _cpu():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def _header(run, result):
    data = run.data
    text = (
        f"{len(data.train)} training, {len(data.validation)} validation and {data.num_held_out} "
        f"test examples of shape {data.event_shape}; {run.config.num_couplings} additive "
        f"couplings, {run.config.prior_text}. Weights of epoch {run.epoch}, the best on validation."
    )
    if data.labels:
        text += (
            f" The density is given {data.labels.name}: {data.labels.describe()}. What is shown of "
            "densities of p(x) alone is left out."
        )
    if not data.schema:
        text += " The examples shown below are of validation, never of test."
    log_prob = f"{result['log_prob']:.2f} &plusmn; {result['log_prob_std_error']:.2f}"
    lines = [
        f"<h1>NICE on {html.escape(data.name)}</h1>",
        f'<p class="headline">{log_prob} nats on {result["split"]}</p>',
        f"<p>{html.escape(text)}</p>",
    ]
    return "\n".join(lines)


def _ledger(result):
    rows = []
    for name, value, error, unit in ledger(result):
        number, spread = in_digits(value, error, unit)
        if spread:
            spread = f"± {spread}"
        rows.append([name, number, spread, unit])
    text = (
        "The logarithm of a density, not of a probability: where the data crowd into a small part "
        "of the space it is positive. More nats, or fewer bits, are better. The plus-minus is the "
        "standard error over examples."
    )
    return _table(("", "value", "", "unit"), rows, numbers=(1, 2)) + f"<p>{text}</p>"


def _simpler(scores):
    text = (
        "Beside it, densities without a network, on the same rows at the same noise. A network "
        "that is not ahead of them is not worth its training."
    )
    rows = [[*row, "nats"] for row in scores.likelihoods()]
    return f"<p>{text}</p>" + _table(("", "value", "", "unit"), rows, numbers=(1, 2))


def _columns(table):
    head = ("column", "kind", "step", "lowest", "highest", "missing", "most frequent", "in train")
    parts = [_table((*head, "in samples"), table.columns(), numbers=(3, 4, 5, 7, 8))]
    text = (
        "Ranges and missing values are of all rows. The share of the most frequent value is that "
    )
    text += "in the rows of train"
    if table.run.data.missing:
        text += ", with missing values filled as they were for training"
    parts.append(f"<p>{text}.</p>")
    for warning in table.run.data.warnings:
        parts.append(f"<p>Warning: {html.escape(warning)}</p>")
    parts.append(f"<p>Columns: {html.escape(table.run.schema.describe())}.</p>")
    return "\n".join(parts)


def _of_columns(table):
    """Pictures of the columns, data beside samples."""
    histograms = (
        "Shares of the values, data filled and samples as a line. What lies beyond the 2nd and the "
        "98th percentile is in the bins at the ends"
    )
    num_left = len(table.run.schema.columns) - MAX_COLUMNS
    if num_left > 0:
        histograms += f". {num_left} more columns are not drawn"
    found = [_section("Data and samples", _figures([_wide(table.histograms(), f"{histograms}.")]))]
    pairs = table.pairs()
    if pairs.pairs:
        text = (
            "The pairs that tell most of each other, by the mutual information of the data beyond "
            "what chance gives; numbers count in ten bins of as many rows, each category by itself."
        )
        found.append(_section("Pairs of columns", _figures([_wide(pairs, text)])))
    else:
        text = "No two columns tell more of each other than chance gives."
        found.append(_section("Pairs of columns", f"<p>{text}</p>"))
    correlations = "Spearman's, blue above 0 and orange below."
    if table.run.schema.of_kind("category"):
        correlations += (
            " Categories count by their numbers, the most frequent first, an order that means "
            "little: what they say of other columns is in the pairs above."
        )
    found.append(_section("Correlations", _figures([_wide(table.matrices(), correlations)])))
    return found


def _of_rows(scores):
    """How likely rows are that were held out."""
    found = []
    split = "test"
    if scores.run.data.num_held_out:
        calibration = _chart(scores.calibration(), "A score is to act on if both lines agree.")
        found.append(_section("Calibration", _figures([calibration])))
    else:
        split = "validation"
    text = (
        f"Of {split}, by the number of the row in the file, counted from 0 without the header, and "
        "with the columns that cost them most: what the row would gain if the value were its "
        "column's median, or most frequent category. Look here for mistakes in the data."
    )
    if scores.run.data.missing:
        text += " A value marked as filled was missing: another of its column stands for it."
    head = ("row", "log-likelihood", "why")
    unusual = _table(head, scores.unusual(), numbers=(0, 1))
    found.append(_section("The least likely rows", f"<p>{text}</p>{unusual}"))
    return found


def _wide(drawn, caption):
    text = html.escape(caption)
    return f'<figure class="wide">{drawn.svg()}<figcaption>{text}</figcaption></figure>'


def _learning_curves(workdir, run):
    rows = workdir.read_metrics(up_to_epoch=run.config.epochs)
    if not rows:
        raise UserError(
            f"workdir {workdir.path} has no metrics.csv: restore it, or train again in another "
            "workdir"
        )
    epochs = []
    training = []
    validation = []
    seconds = 0.0
    for row in rows:
        epochs.append(int(row["epoch"]))
        training.append(float(row["log_prob"]))
        validation.append(float(row["val_log_prob"]))
        seconds += float(row["seconds"])
    chart = drawing.Chart(
        {"training (running)": (epochs, training), "validation": (epochs, validation)},
        "epoch (dotted: the best on validation)",
        "nats per example",
        marked_x=run.epoch,
    )
    return _figures([_chart(chart, f"Epochs: {len(rows)}, in {seconds:.0f} seconds.")])


def _sample_pictures(workdir):
    pictures = []
    for name, caption in _SAMPLES.items():
        path = workdir.path / name
        if path.exists():
            pictures.append(_picture(path.read_bytes(), caption))
    return pictures


def _drawn(run, name):
    draw, _ = figures.FIGURES[name]
    drawn = draw(run)
    if isinstance(drawn, drawing.Chart):
        return _chart(drawn, _CAPTIONS[name])
    height, width, _ = drawn.shape
    return _picture(drawing.png(drawn), _CAPTIONS[name], wide=width > 1.5 * height)


def _settings(config, chosen):
    rows = []
    for name, value in config.as_dict().items():
        if value == "auto" and name in chosen:
            value = f"auto, here {chosen[name]}"
        rows.append([name, value])
    return rows


def _commands(run, workdir):
    config = run.config
    default = Config().as_dict()
    changed = []
    for name, value in config.as_dict().items():
        if value != default[name]:
            changed.append(f"--{name}={config.flag_text(name)}")
    folder = shlex.quote(str(workdir.path))
    commands = [
        shlex.join(["nice-tf", "train", *changed, f"--workdir={workdir.path}"]),
        f"nice-tf report --workdir={folder}",
        f"nice-tf figures --workdir={folder}",
    ]
    if not run.data.schema:  # a table's missing values are filled by nice-tf impute
        commands.append(f"nice-tf inpaint --workdir={folder}")
    commands.append(f"nice-tf export --workdir={folder} --export_dir={folder}/export")
    return commands


def _section(title, content):
    return f"<section>\n<h2>{html.escape(title)}</h2>\n{content}\n</section>"


def _figures(parts):
    content = "\n".join(parts)
    return f'<div class="figures">\n{content}\n</div>'


def _picture(png, caption, *, wide=False):
    kind = ""
    if wide:
        kind = " class=wide"
    text = html.escape(caption)
    image = f'<img alt="{text}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f"<figure{kind}>{image}<figcaption>{text}</figcaption></figure>"


def _chart(chart, caption):
    text = html.escape(caption)
    return f'<figure class="chart">{chart.svg()}<figcaption>{text}</figcaption></figure>'


def _table(head, rows, *, numbers=()):
    lines = [""]
    if any(head):
        cells = [f"<th>{html.escape(name)}</th>" for name in head]
        lines = [f"<tr>{''.join(cells)}</tr>"]
    for row in rows:
        cells = []
        for i, value in enumerate(row):
            kind = ""
            if i in numbers:
                kind = " class=number"
            cells.append(f"<td{kind}>{html.escape(str(value))}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    content = "\n".join(lines)
    return f'<div class="scroll"><table>{content}</table></div>'
