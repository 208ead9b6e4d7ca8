"""Commands: `python -m nice_tf.apps.NAME --help`. One a file, each thin."""
