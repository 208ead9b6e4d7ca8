"""What a conditioner sees of the coordinates that its coupling passes on."""

from typing import Any

import numpy as np
import tensorflow as tf

from nice_tf.bijectors.marginals import QuantileTransform
from nice_tf.bijectors.piecewise import Tensors, kept


class View(tf.Module):
    """A conditioner that sees some of the passed coordinates, perhaps as values of the data.

        m(h) = conditioner(h_seen)
        m(h) = conditioner((x(h_seen) - mean) / deviation)    with marginals

    x(h) is the inverse of the marginals. In a nested partition no coupling has shifted what is
    seen: it is the value of the data itself.
    """

    def __init__(
        self,
        conditioner: Any,
        coordinates: np.ndarray,
        *,
        marginals: QuantileTransform | None = None,
        is_frozen: bool = False,
        name: str = "view",
    ):
        """Makes the view.

        Args:
          conditioner: the m behind it, of `[..., n]`.
          coordinates: of x that it sees, `[n]`: the first n of what the coupling passes on.
          marginals: by which they become values again; `None` leaves them as they are.
          is_frozen: for answers alone: what it makes of the marginals is made once.
          name: of the module.
        """
        super().__init__(name=name)
        self.conditioner = conditioner
        self.dtype = conditioner.dtype
        self._coordinates = np.asarray(coordinates, np.int32)
        self._marginals = marginals
        self._tables: Tensors | None = None
        if marginals is not None and is_frozen:
            self._tables = kept(marginals.tables_of_values(self._coordinates))

    @property
    def has_output_scale(self) -> bool:
        """Whether each output of the m behind it has a factor of its own."""
        return self.conditioner.has_output_scale

    def assign_output_scale(self, output_scale: tf.Tensor) -> None:
        """As for `MLP`."""
        self.conditioner.assign_output_scale(output_scale)

    def frozen(self, conditioner: Any) -> "View":
        """The same view for answers alone, of another m."""
        return View(
            conditioner,
            self._coordinates,
            marginals=self._marginals,
            is_frozen=True,
            name=self.name,
        )

    def __call__(self, passed: tf.Tensor, **kwargs: tf.Tensor) -> tf.Tensor:
        """M of what the coupling passes on, `[..., num_passthrough]`; the keywords are the
        conditioner's.
        """
        seen = passed[..., : len(self._coordinates)]
        if self._marginals is not None:
            seen = self._marginals.standardized_values(seen, self._coordinates, tables=self._tables)
        return self.conditioner(seen, **kwargs)
