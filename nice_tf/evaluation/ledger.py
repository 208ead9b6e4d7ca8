"""An evaluation in words: every unit that it can be stated in."""

from typing import Any

import numpy as np


def ledger(result: dict[str, Any]) -> list[tuple[str, float, float | None, str]]:
    """Every way to state an evaluation, as rows (what, value, standard error, unit)."""
    size = result["event_size"]
    error = result["log_prob_std_error"]
    where = "x in the data's own units"
    bins = "a column's own steps"
    if result["levels"]:
        where = f"x on [0, 1]^{size}"
        bins = f"{result['levels']} levels"
    density = f"density of {where}"
    given = result.get("conditional")
    if given:
        density = f"given {given['label']}, {density}"
    rows = [("log-likelihood", result["log_prob"], error, f"nats per example, {density}")]
    for name, value in (result.get("log_prob_on_ranges") or {}).items():
        rows.append(("", value, error, f"nats, the same with values on {name}^{size}"))
    if result["bits_per_dim"] is not None:
        bits_error = error / size / np.log(2)
        rows.append(("bits/dim", result["bits_per_dim"], bits_error, f"bits per value, of {bins}"))
    bound = result.get("importance_weighted_log_prob")  # earlier versions have none
    if bound is not None:
        bits = result["importance_weighted_bits_per_dim"]
        draws = f"bound from {result['num_draws']} draws together"
        rows.append(("importance weighted", bound, None, f"nats, {density}, {draws}"))
        rows.append(("", bits, None, f"bits per value, {draws}"))
    if given:
        rows += _conditional_rows(given, where)
    alone = result.get("marginals")
    if alone:
        rows += _marginal_rows(alone, where)
    return rows


def _marginal_rows(alone, where):
    gain, error = alone["gain"], alone["gain_std_error"]
    verdict = ""
    if gain < 2 * error:
        verdict = ": no more than by chance, independent coordinates are as good"
    return [
        (
            "marginals alone",
            alone["log_prob"],
            alone["log_prob_std_error"],
            f"nats, density of {where}, of independent coordinates",
        ),
        ("couplings add", gain, error, f"nats{verdict}"),
    ]


def _conditional_rows(given, where):
    label = given["label"]
    most_frequent = 100 * given["accuracy_of_most_frequent"]
    usual = f"{given['num_classes']} classes, the most frequent {most_frequent:.2f} %"
    return [
        (
            "log p(x)",
            given["log_prob"],
            given["log_prob_std_error"],
            f"nats, density of {where}, summed over p({label})",
        ),
        (
            f"{label} given x",
            100 * given["accuracy"],
            100 * given["accuracy_std_error"],
            f"% right, by Bayes; {usual}",
        ),
    ]


def in_digits(value: float, error: float | None, unit: str) -> tuple[str, str]:
    """A value of the ledger and its error as texts, bits with three decimals; "" for no error."""
    digits = 2
    if unit.startswith("bits"):
        digits = 3
    if error is None:
        return f"{value:.{digits}f}", ""
    return f"{value:.{digits}f}", f"{error:.{digits}f}"


def as_text(result: dict[str, Any]) -> str:
    """The table printed at the end, with its unit explained."""
    noise = "without noise"
    if result["num_draws"] > 1 or result["bits_per_dim"] is not None:
        noise = f"{result['num_draws']} noise draws each"
    lines = [
        f"{result['split']} log-likelihood of {result['dataset']}: {result['num_examples']} "
        f"examples, {noise}, weights of epoch {result['epoch']} (best on validation)",
    ]
    for name, value, error, unit in ledger(result):
        number, spread = in_digits(value, error, unit)
        if spread:
            spread = f"+- {spread}"
        lines.append(f"  {name:19s} {number:>10s} {spread:9s} {unit}")
    lines.append(
        "A log-likelihood is the logarithm of a density, not of a probability: where the data "
        "crowd into a small part\nof the space the density is above 1 and its logarithm positive. "
        "More nats, or fewer bits/dim, are better."
    )
    return "\n".join(lines)
