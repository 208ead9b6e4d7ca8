"""The earlier name of `nice_tf.scoring.files`, for one release."""

from nice_tf.scoring.files import *  # noqa: F403
