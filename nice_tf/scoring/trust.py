"""How far draws can be trusted, kept with the tables that hold them."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_KEY = b"trust"  # in the metadata of a table


def with_trust(table: pa.Table, acceptances: Sequence[float], sizes: Sequence[float]) -> pa.Table:
    """A table of draws that carries what is known of them.

    Args:
      table: the draws.
      acceptances: of each row that was drawn, as `conditional.Draws` has it.
      sizes: effective sample size of each.
    """
    values = {"acceptances": list(acceptances), "sizes": list(sizes)}
    return table.replace_schema_metadata({_KEY: json.dumps(values)})


@dataclasses.dataclass
class Trust:
    """How far draws can be trusted, over all tables of them, also those of an earlier command that
    was cut off.

    Attributes:
      acceptances: of each row that had missing values.
      sizes: effective sample size of each of these rows.
    """

    acceptances: list[float] = dataclasses.field(default_factory=list)
    sizes: list[float] = dataclasses.field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        """Counts a table of `with_trust`."""
        values = json.loads(table.schema.metadata[_KEY])
        self.acceptances += values["acceptances"]
        self.sizes += values["sizes"]

    def of_one_row(self) -> "Trust":
        """The same where all tables are draws of one row: their sizes add up."""
        return Trust([float(np.mean(self.acceptances))], [float(np.sum(self.sizes))])

    def describe(self, num_draws: int) -> str:
        """A line."""
        if not self.sizes:
            return "no value was missing"
        sizes = np.array(self.sizes)
        worth = f"{sizes.min():.0f}"
        if len(sizes) > 1:
            worth = f"{np.median(sizes):.0f} (median over {len(sizes):,} rows; least {worth})"
        said = (
            f"acceptance {np.mean(self.acceptances):.2f}; {num_draws} draws are worth {worth} "
            "independent ones"
        )
        if sizes.min() < min(10, num_draws / 2):
            said += ": too few for some rows, give more draws"
        return said
