"""Figures and the report of a finished run, through the commands that draw them."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from matplotlib import image as plt_image
from processes import time_limit

import nice_tf
from nice_tf import choices, drawing
from nice_tf.choices import MASKS
from nice_tf.data import dataset
from nice_tf.flows.inpainting import make_mask
from nice_tf.reports import figures, noise_experiment
from nice_tf.runs import finished as finished_lib
from nice_tf.seeds import stateless_seed

SMALL = {
    "dataset": "digits",
    "num_couplings": 3,
    "hidden_units": (16,),
    "epochs": 2,
    "batch_size": 100,
    "num_draws": 2,
    "epsilon": 1e-8,
    "precision": "float32",
    "sample_every_epochs": 0,
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, trained):
    path = tmp_path_factory.mktemp("run")
    trained(nice_tf.Config(**SMALL, whitening="zca"), path)
    return path


@pytest.fixture(scope="module")
def run(workdir):
    return finished_lib.load_finished_run(workdir)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A finished run on a table, which has no pictures."""
    path = tmp_path_factory.mktemp("table")
    generator = np.random.default_rng(0)
    np.save(path / "table.npy", generator.normal(size=[300, 4]) @ generator.normal(size=[4, 4]))
    config = nice_tf.Config(
        **{**SMALL, "dataset": str(path / "table.npy"), "batch_size": 50}, whitening="standardize"
    )
    nice_tf.train_and_evaluate(config, path / "run")
    return path / "run"


def cells(grid, rows, columns, height=8, width=8):
    """The pictures of a grid, `[rows, columns, height, width]`."""
    return np.array(
        [
            [
                grid[
                    1 + r * (height + 1) : (r + 1) * (height + 1),
                    1 + c * (width + 1) : (c + 1) * (width + 1),
                    0,
                ]
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )


def test_reconstruction_and_interpolation_show_validation_examples(run):
    shown = np.rint(run.data.validation[:10, :, :, 0] / 16 * 255)
    original, kept, tenth = cells(figures.reconstruction(run), 3, 10).astype(float)
    np.testing.assert_allclose(original, shown, atol=1)
    assert np.abs(kept - shown).mean() < np.abs(tenth - shown).mean()
    path = cells(figures.interpolation(run), 10, 10).astype(float)
    for row in range(10):
        np.testing.assert_allclose(path[row, 0], shown[row // 2 * 2], atol=2)
        np.testing.assert_allclose(path[row, -1], shown[row // 2 * 2 + 1], atol=2)


def test_inpainting_shows_original_masked_filled(run):
    grid = figures.inpainting(run, num_images=4, num_steps=5)
    width = 4 * 9 + 1
    original, masked, filled = (
        grid[:, start : start + width] for start in (0, width + 6, 2 * (width + 6))
    )
    assert grid.shape == (10 * 9 + 1, 3 * width + 12, 3)
    hidden = np.all(masked == figures._HIDDEN, axis=-1)
    shown = np.rint(run.data.validation[:4, :, :, 0] / 16 * 255)
    for name, row, blank in zip(
        MASKS, cells(original, 10, 4), cells(hidden[..., np.newaxis], 10, 4), strict=True
    ):
        np.testing.assert_allclose(row.astype(float), shown, atol=1)
        for one in blank:
            np.testing.assert_array_equal(
                one, ~make_mask(name, [8, 8], seed=run.config.seed), err_msg=name
            )
    np.testing.assert_array_equal(masked[~hidden], original[~hidden])
    np.testing.assert_array_equal(filled[~hidden], original[~hidden])
    assert np.abs(filled[hidden].astype(float) - original[hidden]).mean() > 1
    top = cells(hidden[..., np.newaxis], 10, 4)[0]
    assert top[:, :4].all() and not top[:, 4:].any()


def test_temperatures_and_spheres_differ_by_row(run):
    seed = stateless_seed(run.config.seed, "samples")
    for row, temperature in zip(
        cells(figures.temperatures(run), 5, 10), (0.6, 0.7, 0.8, 0.9, 1.0), strict=True
    ):
        drawn = nice_tf.sample(run.flow, 10, seed=seed, temperature=temperature).numpy()[..., 0]
        np.testing.assert_allclose(row, np.clip((drawn * 17 - 0.5) / 16, 0, 1) * 255, atol=1)
    for name, dimension in (("sphere", 2), ("sphere_3", 3)):
        radius = np.sqrt(64) * np.pi / np.sqrt(3)  # where samples of the logistic prior lie
        codes = nice_tf.sphere_codes(
            64, radius=radius, num_rows=10, num_columns=10, dimension=dimension, seed=0
        )
        np.testing.assert_allclose(np.linalg.norm(codes, axis=-1), radius, rtol=1e-5)
        z = tf.reshape(tf.cast(codes, tf.float32), [-1, 64])
        np.testing.assert_array_equal(
            figures.FIGURES[name][0](run), run.grid(run.flow.bijector.forward(z))
        )
    assert not np.array_equal(figures.sphere(run), figures.sphere_3(run))


def test_spectrum_is_sorted_and_marks_the_effective_dimension(run):
    chart = figures.spectrum(run)
    ((ranks, sigma),) = chart.lines.values()
    assert list(ranks) == list(range(1, 65)) and np.all(np.diff(sigma) <= 0)
    assert chart.marked_x == nice_tf.effective_dimension(sigma)
    assert plt_image.imread(io.BytesIO(chart.png())).shape[1] == 840
    assert (
        chart.svg().startswith("<svg")
        and chart.svg() == chart.svg()
        and "currentColor" in chart.svg()
    )


class _Page(html.parser.HTMLParser):
    """What a page refers to, and whether its tags close in order."""

    void = frozenset(["meta", "img", "br", "link"])

    def __init__(self, text):
        super().__init__()
        self.open, self.sources = [], []
        self.feed(text)

    def handle_startendtag(self, tag, attrs):
        pass  # as in SVG

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(workdir, tmp_path_factory):
    from nice_tf.reports import page as page_lib

    return page_lib.write_report(
        finished_lib.load_finished_run(workdir),
        workdir,
        tmp_path_factory.mktemp("report") / "r.html",
    )


def test_report_holds_everything_and_needs_nothing(page, workdir):
    text = page.read_text()
    parsed = _Page(text)
    assert parsed.open == []
    pictures = [source for source in parsed.sources if source.startswith("data:image/png;base64,")]
    assert all(source.startswith(("data:", "#")) for source in parsed.sources)
    assert len(pictures) == 2 + 6
    for source in pictures:
        picture = plt_image.imread(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert picture.std() > 0.05, "a picture of nothing"
    assert len(set(pictures)) == 8, "each is another one"
    assert text.count("<svg") == 2
    result = json.loads((workdir / "evaluation.json").read_text())
    for value in (
        result["log_prob"],
        *result["log_prob_on_ranges"].values(),
        result["importance_weighted_log_prob"],
    ):
        assert f">{value:.2f}<" in text
    for value in (result["bits_per_dim"], result["importance_weighted_bits_per_dim"]):
        assert f">{value:.3f}<" in text
    assert "<td>whitening</td><td>zca</td>" in text and "tensorflow" in text
    (command,) = re.findall(r"nice-tf train .*", text)
    assert (
        "--whitening=zca" in command
        and "--hidden_units=16 " in command
        and "--learning_rate" not in command
    )


def test_report_of_a_table_has_no_pictures(table, run_here):
    finished = run_here("-m", "nice_tf.apps.report", f"--workdir={table}")
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr
    text = (table / "report.html").read_text()
    assert (
        "Spectrum" in text
        and "In-painting" not in text
        and "bits/dim" not in text
        and "<img" not in text
    )
    assert "in the data&#x27;s own units" in text
    wrong = run_here("-m", "nice_tf.apps.figures", f"--workdir={table}", "--figures=sphere")
    assert (
        wrong.returncode == 1
        and "figures sphere are of pictures, examples have shape [4]" in wrong.stderr
    )
    wrong = run_here("-m", "nice_tf.apps.inpaint", f"--workdir={table}")
    assert (
        wrong.returncode == 1
        and "in-painting draws pictures, the examples have shape [4]" in wrong.stderr
    )


def test_report_in_a_browser(page, tmp_path):
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        pytest.skip("no Chromium on this machine")
    probe = tmp_path / "probe.html"
    script = """<script>
    addEventListener("load", () => {
      const pictures = [...document.images];
      document.title = JSON.stringify({
        drawn: pictures.filter(picture => picture.complete && picture.naturalWidth > 0).length,
        all: pictures.length,
        charts: [...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height > 50).length,
        overflow: document.documentElement.scrollWidth > innerWidth,
        dark: matchMedia("(prefers-color-scheme: dark)").matches,
        background: getComputedStyle(document.body).backgroundColor,
      });
    });</script>"""
    probe.write_text(page.read_text().replace("</body>", script + "</body>"))
    backgrounds = set()
    for width in (500, 1400):  # Chromium makes no window narrower than 500
        for dark in (False, True):
            finished = subprocess.run(
                [
                    browser,
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--enable-logging=stderr",
                    f"--window-size={width},900",
                    f"--user-data-dir={tmp_path}/{width}{dark}",
                    "--dump-dom",
                    *(
                        ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
                        if dark
                        else []
                    ),
                    probe.as_uri(),
                ],
                capture_output=True,
                text=True,
                timeout=time_limit(),
            )
            assert "CONSOLE" not in finished.stderr, finished.stderr
            found = json.loads(
                html.unescape(re.search(r"<title>(.*?)</title>", finished.stdout).group(1))
            )
            assert (
                found["drawn"] == found["all"] == 8
                and found["charts"] == 2
                and not found["overflow"]
            )
            assert found["dark"] == dark
            backgrounds.add(found["background"])
    assert len(backgrounds) == 2


def test_figures_and_inpaint_commands(run_here, workdir, tmp_path):
    assert tuple(figures.FIGURES) == choices.FIGURES
    finished = run_here(
        "-m", "nice_tf.apps.figures", f"--workdir={workdir}", f"--output_dir={tmp_path}/figures"
    )
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == set(figures.FIGURES)
    np.save(tmp_path / "mask.npy", np.tri(8))
    inpaint = [
        "-m",
        "nice_tf.apps.inpaint",
        f"--workdir={workdir}",
        "--num_images=2",
        "--num_steps=3",
    ]
    finished = run_here(
        *inpaint, f"--mask_file={tmp_path}/mask.npy", f"--output={tmp_path}/own.png"
    )
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr
    assert plt_image.imread(tmp_path / "own.png").shape[1] > 1000
    np.save(tmp_path / "mask.npy", np.tri(7))
    for arguments, message in (
        (
            [f"--mask_file={tmp_path}/mask.npy"],
            "the mask has shape [7, 7], the model's examples have [8, 8, 1]",
        ),
        ([f"--mask_file={tmp_path}/none.npy"], "cannot be read (No such file or directory)"),
        (["--masks=sideways"], "mask must be one of top, bottom"),
    ):
        wrong = run_here(*inpaint, *arguments)
        assert (
            wrong.returncode == 1 and wrong.stderr.count("\n") == 1 and message in wrong.stderr
        ), wrong.stderr


def test_what_is_no_finished_run_is_refused(workdir, tmp_path, run_here):
    missing = run_here("-m", "nice_tf.apps.report", f"--workdir={tmp_path}/none")
    assert (
        missing.returncode == 1
        and "holds no run" in missing.stderr
        and missing.stderr.count("\n") == 1
    )
    assert run_here("-m", "nice_tf.apps.report").stderr.startswith("error: --workdir is needed")
    shutil.copytree(workdir, tmp_path / "run")
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "evaluation.json").rename(tmp_path / "evaluation.json")
    with pytest.raises(nice_tf.UserError, match="is not finished, it has no evaluation"):
        finished_lib.load_finished_run(tmp_path / "run")
    (tmp_path / "evaluation.json").rename(tmp_path / "run" / "evaluation.json")
    content["data"]["num_test"] = 299
    (tmp_path / "run" / "config.json").write_text(json.dumps(content))
    with pytest.raises(nice_tf.UserError, match=r"config\.json was changed after it was written"):
        finished_lib.load_finished_run(tmp_path / "run")
    (tmp_path / "run" / "checksums.json").unlink()  # as of an earlier version
    with pytest.raises(
        nice_tf.UserError,
        match=r"trained on other data \(data num_test: 300, where the run has 299\)",
    ):
        finished_lib.load_finished_run(tmp_path / "run")


@pytest.mark.slow
def test_noise_experiment(tmp_path):
    config = nice_tf.Config(**{**SMALL, "epochs": 3, "num_draws": 1})
    with_noise, without = noise_experiment.noise_experiment(config, tmp_path)
    assert json.loads((tmp_path / "noise.json").read_text()) == [with_noise, without]
    assert plt_image.imread(tmp_path / "noise.png").shape[1] > 1000
    assert without["num_at_floor"] > 0 == with_noise["num_at_floor"]
    assert without["log_prob_with_noise"] < with_noise["log_prob_with_noise"]
    for noise, row in (("uniform", with_noise), ("none", without)):
        trained, data = nice_tf.load_flow(tmp_path / noise), dataset.load(config)
        x = (data.validation + 0.5) / 17  # integers without noise, at the centre of their bins
        np.testing.assert_allclose(
            row["log_prob_without_noise"], np.mean(trained.log_prob(x)), rtol=1e-4
        )
        noisy = trained.log_prob(nice_tf.dequantize(data.validation, 17, tf.constant([1, 2])))
        np.testing.assert_allclose(row["log_prob_with_noise"], np.mean(noisy), rtol=0.1)
    np.testing.assert_allclose(
        without["nats_of_a_floor_ten_times_lower"], without["num_at_floor"] * np.log(10)
    )


def test_noise_experiment_refuses_continuous_data_before_it_trains(tmp_path):
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=[300, 4]))
    config = nice_tf.Config(**{**SMALL, "dataset": str(tmp_path / "table.npy")})
    with pytest.raises(nice_tf.UserError, match="is continuous: there is no noise to leave out"):
        noise_experiment.noise_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_few_validation_images_are_all_shown(tmp_path):
    images = np.random.default_rng(0).integers(0, 17, [50, 6, 6], np.uint8)
    np.save(tmp_path / "few.npy", images)
    config = {
        **SMALL,
        "dataset": str(tmp_path / "few.npy"),
        "levels": 17,
        "batch_size": 10,
        "epochs": 1,
    }
    nice_tf.train_and_evaluate(nice_tf.Config(**config), tmp_path / "run")
    run = finished_lib.load_finished_run(tmp_path / "run")
    assert len(run.data.validation) == 7
    assert figures.interpolation(run).shape[0] == 6 * 7 + 1
    assert figures.inpainting(run, num_images=300, num_steps=1).shape == (
        10 * 7 + 1,
        3 * (7 * 7 + 1) + 12,
        3,
    )
    np.save(tmp_path / "few.npy", images[::-1])
    with pytest.raises(nice_tf.UserError, match=r"trained on other data \(data sha256"):
        finished_lib.load_finished_run(tmp_path / "run")


def test_side_by_side():
    grids = [np.zeros([5, 3, 3], np.uint8), np.full([5, 4, 3], 255, np.uint8)]
    joined = drawing.side_by_side(grids)
    assert joined.shape == (5, 3 + 6 + 4, 3)
    np.testing.assert_array_equal(joined[0, :, 0], [0] * 3 + [drawing.GAP] * 6 + [255] * 4)
