"""How the m of each coupling of a flow is made."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from nice_tf.bijectors.conditioners import MLP
from nice_tf.bijectors.convolutions import ConvNet, make_grid
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

        A coupling whose picture is smaller than the kernel, as the coarsest of a nested partition
        are, has an `MLP` also with `"convolution"`; the first coupling is not let off.

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
        if self.conditioner == "convolution" and self._has_room(k, split):
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

    def _has_room(self, k, split):
        """Whether the coupling's picture holds a kernel; that of the first one has to."""
        grid = make_grid(self.event_shape, split.seen, split.shifted)
        return k == 0 or self.kernel_size <= min(grid.size)
