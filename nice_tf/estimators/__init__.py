"""Estimators as scikit-learn has them: the training and the scores of the package for arrays and
data frames instead of files.

    from nice_tf.estimators import NiceDensity

scikit-learn is imported here: `import nice_tf` alone does not need it.
"""

from nice_tf.estimators.density import NiceDensity
from nice_tf.estimators.outliers import NiceOutlierDetector

__all__ = ["NiceDensity", "NiceOutlierDetector"]
