"""The SavedModel of a server: all of its signatures, or one alone."""

import json
import pathlib
from typing import Any

import tensorflow as tf

from nice_tf.errors import check_choice
from nice_tf.serving.server import DESCRIPTION
from nice_tf.serving.signatures import FlowServer

DEFAULT = "serving_default"


def check_signature(server: FlowServer, signature: str) -> None:
    """Checks that a signature can stand alone.

    Raises:
      UserError: the model has none of this name, or it has no batch.
    """
    names = []
    for name in server.signatures():
        # The scalars of sample_n cannot be batched; sample draws the same.
        if name not in (DEFAULT, "sample_n"):
            names.append(name)
    check_choice("signature", signature, names)


def save(
    server: FlowServer,
    description: dict[str, Any],
    directory: pathlib.Path,
    *,
    signature: str | None = None,
) -> None:
    """Writes the SavedModel.

    Args:
      server: of the model.
      description: goes among its assets.
      directory: to write to; it is there.
      signature: the one that is written, as `serving_default`; `None` for all.
    """
    module: Any = server
    signatures = server.signatures()
    if signature:
        # Every function of a module that is saved is in the file: this one has none but the
        # signature, and the variables that it reads.
        module = tf.Module()
        module.server_variables = server.variables
        signatures = {DEFAULT: signatures[signature]}
        description = {**description, "signature": signature}
    path = directory / DESCRIPTION
    path.write_text(json.dumps(description, indent=2) + "\n")
    module.description = tf.saved_model.Asset(str(path))
    # Copies the description to the assets.
    tf.saved_model.save(module, str(directory), signatures=signatures)
    path.unlink()
