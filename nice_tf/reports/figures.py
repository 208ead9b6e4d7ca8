"""The paper's and the slides' figures of a finished run, by name."""

import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nice_tf import drawing
from nice_tf.choices import MASKS
from nice_tf.files import write_atomically
from nice_tf.flows import analysis
from nice_tf.flows.flow import sample
from nice_tf.flows.inpainting import inpaint, make_mask
from nice_tf.flows.priors import relative_deviation, unit_deviation
from nice_tf.runs.finished import FinishedRun
from nice_tf.seeds import stateless_seed

TEMPERATURES = (0.6, 0.7, 0.8, 0.9, 1.0)
_HIDDEN = (70, 100, 160)  # tint of what a mask hides


def spectrum(run: FinishedRun) -> drawing.Chart:
    """sigma_d = 1 / s_d, largest first, with the effective dimension marked.

    Dinh et al. 2014, appendix A.2.
    """
    sigma = np.sort(analysis.inverse_scales(run.flow).numpy())[::-1]
    dimension = analysis.effective_dimension(sigma)
    label = f"rank (dotted: the first {dimension} carry 99 % of the sum of sigma squared)"
    ranks = np.arange(1, len(sigma) + 1)
    return drawing.Chart(
        {"sigma": (ranks, sigma)}, label, "sigma = 1 / s", log_y=True, marked_x=dimension
    )


def reconstruction(run: FinishedRun) -> np.ndarray:
    """Validation examples; from their codes in the effective dimension; from a tenth of them."""
    x = run.density_units(run.data.validation[: drawing.COLUMNS])
    dimension = analysis.effective_dimension(analysis.inverse_scales(run.flow).numpy())
    effective = analysis.reconstruct(run.flow, x, dimension)
    tenth = analysis.reconstruct(run.flow, x, max(1, run.data.event_size // 10))
    return run.grid(tf.concat([x, effective, tenth], axis=0))


def interpolation(run: FinishedRun) -> np.ndarray:
    """Between pairs of validation examples: on a line in latent space, and below it on an arc."""
    number = min(10, len(run.data.validation) // 2 * 2)
    ends = run.density_units(run.data.validation[:number])
    rows = []
    for first, last in zip(ends[::2], ends[1::2], strict=True):
        for kind in analysis.INTERPOLATIONS:
            rows.append(analysis.interpolate(run.flow, first, last, drawing.COLUMNS, kind=kind))
    return run.grid(tf.concat(rows, axis=0))


def _sphere(run, dimension):
    prior = run.flow.distribution
    codes = analysis.sphere_codes(
        run.data.event_size,
        radius=np.sqrt(run.data.event_size) * float(unit_deviation(prior)),
        num_rows=drawing.COLUMNS,
        num_columns=drawing.COLUMNS,
        dimension=dimension,
        seed=run.config.seed,
    )
    z = prior.mean() + tf.cast(codes, run.flow.dtype) * relative_deviation(prior)
    z = tf.reshape(z, [-1, run.data.event_size])
    return run.grid(run.flow.bijector.forward(z))


def sphere(run: FinishedRun) -> np.ndarray:
    """A randomly turned 2-sphere in latent space, pole to pole and once round.

    Around the prior's mean and in deviations of each latent coordinate, where samples lie. Dinh et
    al. 2014, appendix A.1.
    """
    return _sphere(run, 2)


def sphere_3(run: FinishedRun) -> np.ndarray:
    """A torus on a randomly turned 3-sphere in latent space."""
    return _sphere(run, 3)


def temperatures(run: FinishedRun) -> np.ndarray:
    """Samples of the same draws at rising temperature, a row for each from 0.6 to 1.0; of a
    conditional density, one class after the other.
    """
    seed = stateless_seed(run.config.seed, "samples")
    context = run.contexts(np.arange(drawing.COLUMNS) % max(1, run.data.num_classes))
    rows = []
    for temperature in TEMPERATURES:
        rows.append(
            sample(run.flow, drawing.COLUMNS, seed=seed, temperature=temperature, context=context)
        )
    return run.grid(tf.concat(rows, axis=0))


def inpainting(
    run: FinishedRun,
    masks: dict[str, np.ndarray] | None = None,
    *,
    num_images: int = drawing.COLUMNS,
    num_steps: int = 200,
    noise: float = 0.0,
) -> np.ndarray:
    """Original | masked | filled: a row for each mask, the same validation examples in each.

    Args:
      run: the run.
      masks: name to mask, True where observed; the paper's ten when not given.
      num_images: how many examples; all of validation where it has fewer.
      num_steps: as for `inpaint`.
      noise: as for `inpaint`.

    Returns:
      The picture, `[H, W, 3]`.
    """
    num_images = min(num_images, len(run.data.validation))
    if not masks:
        masks = {}
        for name in MASKS:
            masks[name] = make_mask(name, run.data.event_shape, seed=run.config.seed)
    x = run.density_units(run.data.validation[:num_images])
    x = tf.concat([x] * len(masks), axis=0)
    context = None
    if run.data.labels:
        classes = run.data.labels.numbers["validation"][:num_images]
        context = tf.constant(run.contexts(np.tile(classes, len(masks))))
    observed = np.repeat(np.stack(list(masks.values())), num_images, axis=0)
    seeds = tf.stack([stateless_seed(run.config.seed, "inpainting", i) for i in range(len(x))])
    bounds = None
    if run.data.levels is not None:
        bounds = (0.0, 1.0)
    filled, _ = tf.function(inpaint, reduce_retracing=True, autograph=False)(
        run.flow,
        x,
        tf.constant(observed),
        seed=seeds,
        num_steps=num_steps,
        noise=noise,
        bounds=bounds,
        context=context,
    )
    original = run.grid(x, columns=num_images)
    is_hidden = drawing.image_grid(observed, levels=2, columns=num_images).max(axis=-1) == 0
    masked = np.where(is_hidden[..., np.newaxis], np.array(_HIDDEN, np.uint8), original)
    return drawing.side_by_side([original, masked, run.grid(filled, columns=num_images)])


# Those that can be given classes, where the density is given them.
_OF_CLASSES = ("spectrum", "temperatures", "inpainting")

# Name to what draws it, and whether it needs examples that are pictures.
FIGURES: dict[str, tuple[Callable[[FinishedRun], np.ndarray | drawing.Chart], bool]] = {
    "spectrum": (spectrum, False),
    "reconstruction": (reconstruction, True),
    "interpolation": (interpolation, True),
    "sphere": (sphere, True),
    "sphere_3": (sphere_3, True),
    "temperatures": (temperatures, True),
    "inpainting": (inpainting, True),
}


def available(run: FinishedRun) -> list[str]:
    """Names of the figures that this run's data and density allow."""
    names = []
    for name, (_, of_pictures) in FIGURES.items():
        if run.data.labels and name not in _OF_CLASSES:
            continue
        if drawing.is_image(run.data.event_shape) or not of_pictures:
            names.append(name)
    return names


def write(run: FinishedRun, name: str, directory: pathlib.Path) -> pathlib.Path:
    """Draws one of `FIGURES` into `directory` as PNG, and returns its path."""
    path = directory / f"{name}.png"
    draw, _ = FIGURES[name]
    drawn = draw(run)
    if isinstance(drawn, drawing.Chart):
        content = drawn.png()
    else:
        content = drawing.png(drawn)
    write_atomically(path, content)
    return path
