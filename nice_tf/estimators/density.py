"""A density for scikit-learn's pipelines and searches."""

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils.validation import check_array

from nice_tf.estimators.base import Estimator
from nice_tf.estimators.folders import naming_parameters
from nice_tf.scoring.scorer import Scorer


class NiceDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, Estimator):
    """The exact density of rows of numbers by NICE (Dinh, Krueger & Bengio 2014), as an estimator
    of scikit-learn.

        density = NiceDensity(random_state=0).fit(frame)
        density.score_samples(frame)      log p of each row, nats
        density.sample(10)                new rows
        density.transform(frame)          latent codes

    It is the training of `nice-tf train` with the settings of configs/table.flags, kept in memory:
    nothing is written unless `save` or `export` are called, nothing printed unless `verbose`. What
    should be known of X comes as Python warnings.

    Examples:
      >>> import numpy as np
      >>> from nice_tf.estimators import NiceDensity
      >>> x = np.random.default_rng(0).normal(size=[200, 3])
      >>> density = NiceDensity(epochs=2, random_state=0).fit(x)
      >>> density.score_samples(x).shape  # nats per row
      (200,)
    """

    def __init__(
        self,
        *,
        num_couplings: int | None = None,
        hidden_units: Any = None,
        epochs: int | None = None,
        early_stopping_epochs: int | None = None,
        validation_fraction: float | None = None,
        impute: bool = False,
        settings: dict[str, Any] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        """Takes the parameters; `fit` looks at them.

        Args:
          num_couplings: as of `nice_tf.Config`; `None`, here and for the next three, for what
            configs/table.flags says.
          hidden_units: a list of widths, as of `nice_tf.Config`.
          epochs: at most, as of `nice_tf.Config`; 100 if not given.
          early_stopping_epochs: as of `nice_tf.Config`.
          validation_fraction: share of the rows, drawn by `random_state`, on which the best epoch
            is chosen; above 0 and below 1; `None` for one sixth. The others are trained on, none is
            left out.
          impute: fill missing values: in `fit` with others of their column, drawn at random; later
            with the most likely ones. Else they are refused.
          settings: any other settings of `nice_tf.Config` by name, as `{"learning_rate": 2e-3}`;
            names of columns may be a list.
          random_state: of the rows for validation, weights, order and noise: a whole number is
            `--seed` and `--split_seed` of `nice-tf train`.
          verbose: 0 for nothing, 1 for a line per epoch and a moving bar, 2 for the line alone.
        """
        self.num_couplings = num_couplings
        self.hidden_units = hidden_units
        self.epochs = epochs
        self.early_stopping_epochs = early_stopping_epochs
        self.validation_fraction = validation_fraction
        self.impute = impute
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, nats per row: what searches and cross-validation compare."""
        return float(np.mean(self.score_samples(X)))

    def transform(self, X: Any) -> np.ndarray:
        """Latent codes of rows.

        Args:
          X: `[N, D]`, as for `score_samples`.

        Returns:
          z, `[N, K]` in float64: K is the number of columns of the density, without those of one
          value or no numbers.
        """
        scorer = Scorer(self._model, top=0, impute=self.impute)
        codes = []
        table, _ = self._read(X, reset=False)
        for block in self._blocks(table):
            with naming_parameters():
                values = scorer.filled(block).astype(self._model.dtype)
            codes.append(self._model("encode", x=values)["z"])
        return np.concatenate(codes).astype(np.float64)

    def inverse_transform(self, X: Any) -> Any:
        """Rows of latent codes.

        Args:
          X: z, `[N, K]`, as of `transform`.

        Returns:
          `[N, D]`, as `sample` gives them.
        """
        size = self._model.event_size
        z = check_array(X, dtype=np.float32, input_name="X")
        if z.shape[1] != size:
            raise ValueError(f"X has {z.shape[1]} features, the latent codes have {size}")
        rows = []
        for first in range(0, len(z), self._rows_at_once):
            part = z[first : first + self._rows_at_once]
            rows.append(self._model("decode", z=part)["x"])
        return self._as_x(np.concatenate(rows))

    @property
    def _n_features_out(self):
        return self._model.event_size
