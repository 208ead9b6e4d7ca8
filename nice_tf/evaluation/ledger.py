"""An evaluation in words: every unit that it can be stated in."""

from typing import Any

import numpy as np


def ledger(result: dict[str, Any]) -> list[tuple[str, float, float | None, str]]:
    """Every way to state an evaluation, as rows (what, value, standard error, unit)."""
    error = result["log_prob_std_error"]
    size, noisy = result["event_size"], result["bits_per_dim"] is not None
    where = f"x on [0, 1]^{size}" if result["levels"] else "x in the data's own units"
    given = result.get("conditional")
    density = f"given {given['label']}, density of {where}" if given else f"density of {where}"
    rows = [("log-likelihood", result["log_prob"], error, f"nats an example, {density}")]
    for name, value in (result.get("log_prob_on_ranges") or {}).items():
        rows.append(("", value, error, f"nats, the same with values on {name}^{size}"))
    if noisy:
        bits_error = error / size / np.log(2)
        bins = f"{result['levels']} levels" if result["levels"] else "a column's own steps"
        rows.append(("bits/dim", result["bits_per_dim"], bits_error, f"bits a value, of {bins}"))
    if (
        result.get("importance_weighted_log_prob") is not None
    ):  # absent in what an earlier version evaluated
        draws = f"bound from {result['num_draws']} draws together"
        rows += [
            (
                "importance weighted",
                result["importance_weighted_log_prob"],
                None,
                f"nats, {density}, {draws}",
            ),
            ("", result["importance_weighted_bits_per_dim"], None, f"bits a value, {draws}"),
        ]
    if given:
        error = given["log_prob_std_error"]
        rows.append(
            (
                "log p(x)",
                given["log_prob"],
                error,
                f"nats, density of {where}, summed over p({given['label']})",
            )
        )
        share, error = 100 * given["accuracy"], 100 * given["accuracy_std_error"]
        most_frequent = 100 * given["accuracy_of_most_frequent"]
        usual = f"{given['num_classes']} classes, the most frequent {most_frequent:.2f} %"
        rows.append((f"{given['label']} given x", share, error, f"% right, by Bayes; {usual}"))
    return rows


def as_text(result: dict[str, Any]) -> str:
    """The table printed at the end, with its unit explained."""
    noisy = result["num_draws"] > 1 or result["bits_per_dim"] is not None
    noise = f"{result['num_draws']} noise draws each" if noisy else "without noise"
    lines = [
        f"{result['split']} log-likelihood of {result['dataset']}: {result['num_examples']} "
        f"examples, {noise}, weights of epoch {result['epoch']} (best on validation)",
    ]
    for name, value, error, unit in ledger(result):
        digits = 3 if unit.startswith("bits") else 2
        spread = "" if error is None else f"+- {error:.{digits}f}"
        lines.append(f"  {name:19s} {value:10.{digits}f} {spread:9s} {unit}")
    lines.append(
        "A log-likelihood is the logarithm of a density, not of a probability: where the data "
        "crowd into a small part\nof the space the density is above 1 and its logarithm positive. "
        "More nats, or fewer bits/dim, are better."
    )
    return "\n".join(lines)
