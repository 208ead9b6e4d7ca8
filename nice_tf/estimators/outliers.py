"""Rows that a density finds unlikely, as an outlier detector of scikit-learn."""

from typing import Any

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from nice_tf.choices import ANOMALY_SCORES
from nice_tf.errors import UserError, check_choice
from nice_tf.estimators.base import Estimator
from nice_tf.estimators.messages import warn

_USUAL_SHARE = 0.01  # of usual rows that `auto` flags, as the score command does


def below_which(values: np.ndarray, share: float) -> float:
    """The threshold below which a new value of the same distribution lies with this probability, on
    average over what the values may be.

    The k-th lowest of n values has a share k / (n + 1) below it, on average: k = (n + 1) share,
    interpolated (Weibull's plotting position). The quantile with k - 1 = (n - 1) share flags 1.35 %
    instead of 1 % of 278.

    Args:
      values: `[n]`.
      share: above 0 and below 1; less than 1 / (n + 1) gives the lowest value.
    """
    return float(np.quantile(values, share, method="weibull"))


class NiceOutlierDetector(OutlierMixin, Estimator):
    """Flags the rows of lowest density; the density is that of `NiceDensity`, or with `by="ranks"`
    that of the rows' quantile scores, see `nice_tf.rank_log_prob`.

    How it compares with other detectors, and what a low density does not say: docs/anomaly.md.

    Attributes after `fit`, beside those of `NiceDensity`:
      offset_: the log-density, of rows or of quantile scores, below which a row is an outlier.
      by_: which of the two.
    """

    def __init__(
        self,
        *,
        contamination: float | str = "auto",
        by: str = "density",
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
          contamination: share of the rows of `fit` that are outliers, above 0 and at most 0.5: so
            many of them are flagged. Most of them were trained on, which makes them more likely
            than new ones: of these more are flagged. `"auto"` puts the threshold by the validation
            rows, which were not trained on, so that a hundredth of new rows that are as usual is
            flagged on average; of fewer than 99 validation rows those below all of them, on average
            1 / (n + 1). What a single threshold flags differs from that as docs/anomaly.md says.
          by: `"density"`, log p of the values of X; or `"ranks"`, the log-density of where each
            value stands among those of its column, which hardly depends on how a column is
            transformed: for columns with spikes, zeros or heavy tails.
          num_couplings: as of `NiceDensity`, here and below.
          hidden_units: as there.
          epochs: as there.
          early_stopping_epochs: as there.
          validation_fraction: as there.
          impute: as there.
          settings: as there.
          random_state: as there.
          verbose: as there.
        """
        self.contamination = contamination
        self.by = by
        self.num_couplings = num_couplings
        self.hidden_units = hidden_units
        self.epochs = epochs
        self.early_stopping_epochs = early_stopping_epochs
        self.validation_fraction = validation_fraction
        self.impute = impute
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "NiceOutlierDetector":
        """As `NiceDensity.fit`, and sets the threshold, for which all rows count alike."""
        self._check_contamination()
        self._check_by()
        with self._unchanged_on_error():
            super().fit(X, y, sample_weight)
            self.by_ = self.by
            if isinstance(self.contamination, str):
                self.offset_ = below_which(self.run_.usual_log_probs(self.by_), _USUAL_SHARE)
            else:
                self.offset_ = float(np.quantile(self.score_samples(X), self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """As `NiceDensity.score_samples`, or with `by="ranks"` what `nice_tf.rank_log_prob` gives;
        but -infinity where a column that was constant in `fit` has another value, or a column a
        category that it had not: no row of `fit` was so, and a warning names them.
        """
        check_is_fitted(self)
        scores = self._scores(X, self.by_)
        if scores.is_new.any():
            found = "; ".join(filter(None, [scores.unseen, scores.off_constant]))
            warn(
                "X has categories that fit had not, or other values where a column was constant: "
                f"{found}. Such rows are outliers, of score -infinity"
            )
        return np.where(scores.is_new, -np.inf, scores.log_probs)

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` less the threshold, `[N]`: below 0 for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for usual rows and -1 for outliers, `[N]`."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _check_contamination(self):
        value = self.contamination
        if isinstance(value, str):
            if value == "auto":
                return
        elif 0 < value <= 0.5:
            return
        raise UserError(f"contamination must be 'auto', or above 0 and at most 0.5, got {value!r}")

    def _check_by(self):
        check_choice("by", self.by, ANOMALY_SCORES)
        if self.by == "ranks" and (self.settings or {}).get("marginals") == "none":
            raise UserError("by 'ranks' needs marginals, but settings has marginals 'none'")

    def _description(self):
        return {**super()._description(), "offset": self.offset_, "by": self.by_}

    def _restore(self, values):
        super()._restore(values)
        self.offset_ = values["offset"]
        self.by_ = values.get("by", "density")  # absent in what earlier versions saved
