"""How long `NiceDensity().fit` takes on 2,000 rows of ten mixed columns: python benchmarks/estimator_fit.py.

The table is made here: numbers, text, booleans, a date, zeros and missing values. Printed are the epochs, the
processor time and the time on the clock of one fit, after the imports.
"""

import time

import numpy as np
import pyarrow as pa
from absl import flags

from nice_tf.cli import command

flags.DEFINE_integer(
    "rows", 2000, "rows of the table", lower_bound=100, module_name="estimator_fit"
)
flags.DEFINE_integer("seed", 0, "of the table and of the fit", module_name="estimator_fit")


def table(number: int, seed: int) -> pa.Table:
    """Sales of a shop, one in twelve prices missing."""
    generator = np.random.default_rng(seed)
    region = generator.choice(["east", "north", "south", "west"], number, p=[0.4, 0.3, 0.2, 0.1])
    is_online = generator.random(number) < 0.4
    units = 1 + generator.poisson(2 + 3 * is_online)
    price = np.round(generator.lognormal(2.5, 0.6, number), 2)
    discount = np.where(generator.random(number) < 0.6, 0.0, generator.beta(2, 8, number))
    weight = units * generator.gamma(3.0, 0.4, number)
    days = generator.integers(0, 730, number)
    income = generator.normal(40_000 + 9_000 * (region == "east"), 8_000)
    return pa.table(
        {
            "region": region,
            "channel": np.where(is_online, "online", "shop"),
            "member": generator.random(number) < 0.3,
            "units": units,
            "price": pa.array(price, mask=generator.random(number) < 1 / 12),
            "discount": discount,
            "weight": weight,
            "date": pa.array(np.datetime64("2024-01-01") + days),
            "income": income,
            "age": np.clip(generator.normal(44, 14, number), 18, 95).round(),
        }
    )


def main() -> None:
    """Fits once."""
    with command.quiet_tensorflow():
        from nice_tf.estimators import NiceDensity
    values = flags.FLAGS
    rows = table(values.rows, values.seed)
    density = NiceDensity(impute=True, random_state=values.seed)
    on_clock = time.perf_counter()
    of_processor = time.process_time()
    density.fit(rows)
    of_processor = time.process_time() - of_processor
    on_clock = time.perf_counter() - on_clock
    epochs = len(density.history_["log_prob"])
    print(
        f"{len(rows):,} rows of {rows.num_columns} columns: {epochs} epochs, "
        f"{of_processor:.0f} s of processor time, {on_clock:.0f} s on the clock"
    )


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["estimator_fit"])
