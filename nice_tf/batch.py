"""The door to `nice_tf.scoring.files` under its name before 0.2; to be removed with the release
after.
"""

from nice_tf.scoring.files import *  # noqa: F403
