"""A run, from settings to weights; the only user of tf_keras."""
