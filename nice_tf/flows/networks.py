"""How the m of each coupling of a flow is made."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from nice_tf.bijectors.conditioners import MLP
from nice_tf.bijectors.convolutions import ConvNet, Grid, make_grid
from nice_tf.bijectors.coupling import Split
from nice_tf.bijectors.marginals import QuantileTransform
from nice_tf.bijectors.views import View


@dataclasses.dataclass(frozen=True)
class Networks:
    """What the m of all couplings share; the arguments of `build_flow` of the same names say more.

    Attributes:
      event_shape: of one example.
      conditioner: `"mlp"` or `"convolution"`.
      widths: hidden widths of each coupling's `MLP`.
      residual: of the `MLP`.
      channels: of the `ConvNet`.
      residual_blocks: of the `ConvNet`.
      kernel_size: of the `ConvNet`.
      shared: arguments that both kinds take.
      marginals: through which values are seen; `None` where m sees what the coupling passes on.
      seed: of the initial weights.
    """

    event_shape: Sequence[int]
    conditioner: str
    widths: Sequence[Sequence[int]]
    residual: bool
    channels: int
    residual_blocks: int
    kernel_size: int
    shared: dict[str, Any]
    marginals: QuantileTransform | None
    seed: int

    def make(self, k: int, split: Split) -> tf.Module:
        """The m of the k-th coupling.

        With `"convolution"` some still have an `MLP`, as `grid_of` says.

        Raises:
          UserError: a convolution on data that are no pictures, or on pictures smaller than the
            kernel.
        """
        network = self._network(k, split)
        if self.marginals is not None:
            return View(network, split.seen, marginals=self.marginals)
        if split.num_seen < split.num_passthrough:
            return View(network, split.seen)
        return network

    def _network(self, k, split):
        shared = {
            **self.shared,
            "seed": (self.seed + 1_000_003 * k) % 2**31,
            "name": f"conditioner_{k}",
        }
        grid = None
        if self.conditioner == "convolution":
            grid = grid_of(k, split, self.event_shape, self.kernel_size)
        if grid is not None:
            return ConvNet(
                self.event_shape,
                split.seen,
                split.shifted,
                channels=self.channels,
                num_blocks=self.residual_blocks,
                kernel_size=self.kernel_size,
                **shared,
            )
        return MLP(
            split.num_seen,
            len(split.shifted),
            hidden_units=self.widths[k],
            residual=self.residual,
            **shared,
        )


def grid_of(k: int, split: Split, event_shape: Sequence[int], kernel_size: int) -> Grid | None:
    """The picture of the k-th coupling's `ConvNet`; `None` where it is smaller than the kernel, as
    of the coarsest couplings of a nested partition: these have an `MLP`. The first is not let off.
    """
    grid = make_grid(event_shape, split.seen, split.shifted)
    if k and kernel_size > min(grid.size):
        return None
    return grid
