"""NICE (Dinh, Krueger & Bengio 2014): exact densities by additive coupling, for TensorFlow Probability."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public name -> the module it lives in. Loaded at first use, so that `train.py --help` answers at once and the
# commands can quieten TensorFlow before it starts.
_PUBLIC = {
    "AdditiveCoupling": "bijectors",
    "Center": "preprocessing",
    "Config": "config",
    "DiagonalScaling": "bijectors",
    "FlowServer": "serving",
    "FrozenMLP": "conditioners",
    "MLP": "conditioners",
    "Standardize": "preprocessing",
    "TriangularWhitening": "whitening",
    "UserError": "errors",
    "Whitening": "whitening",
    "bits_per_dim": "metrics",
    "build_flow": "flow",
    "conditional_scales": "analysis",
    "context_kwargs": "flow",
    "denoise": "analysis",
    "dequantize": "preprocessing",
    "effective_dimension": "analysis",
    "encoder": "flow",
    "export_saved_model": "bundle",
    "freeze": "flow",
    "gaussian_prior": "priors",
    "initialize_from_data": "flow",
    "inpaint": "inpainting",
    "interpolate": "analysis",
    "inverse_scales": "analysis",
    "layers": "flow",
    "load_flow": "training",
    "logistic_prior": "priors",
    "make_mask": "inpainting",
    "read_flagfile": "config_flags",
    "reconstruct": "analysis",
    "sample": "flow",
    "sphere_codes": "analysis",
    "train_and_evaluate": "training",
}

if TYPE_CHECKING:  # the same names for type checkers and the API reference, which run nothing
    from nice_tf.analysis import conditional_scales as conditional_scales
    from nice_tf.analysis import denoise as denoise
    from nice_tf.analysis import effective_dimension as effective_dimension
    from nice_tf.analysis import interpolate as interpolate
    from nice_tf.analysis import inverse_scales as inverse_scales
    from nice_tf.analysis import reconstruct as reconstruct
    from nice_tf.analysis import sphere_codes as sphere_codes
    from nice_tf.bijectors import AdditiveCoupling as AdditiveCoupling
    from nice_tf.bijectors import DiagonalScaling as DiagonalScaling
    from nice_tf.bundle import export_saved_model as export_saved_model
    from nice_tf.conditioners import MLP as MLP
    from nice_tf.conditioners import FrozenMLP as FrozenMLP
    from nice_tf.config import Config as Config
    from nice_tf.config_flags import read_flagfile as read_flagfile
    from nice_tf.errors import UserError as UserError
    from nice_tf.flow import build_flow as build_flow
    from nice_tf.flow import context_kwargs as context_kwargs
    from nice_tf.flow import encoder as encoder
    from nice_tf.flow import freeze as freeze
    from nice_tf.flow import initialize_from_data as initialize_from_data
    from nice_tf.flow import layers as layers
    from nice_tf.flow import sample as sample
    from nice_tf.inpainting import inpaint as inpaint
    from nice_tf.inpainting import make_mask as make_mask
    from nice_tf.metrics import bits_per_dim as bits_per_dim
    from nice_tf.preprocessing import Center as Center
    from nice_tf.preprocessing import Standardize as Standardize
    from nice_tf.preprocessing import dequantize as dequantize
    from nice_tf.priors import gaussian_prior as gaussian_prior
    from nice_tf.priors import logistic_prior as logistic_prior
    from nice_tf.serving import FlowServer as FlowServer
    from nice_tf.training import load_flow as load_flow
    from nice_tf.training import train_and_evaluate as train_and_evaluate
    from nice_tf.whitening import TriangularWhitening as TriangularWhitening
    from nice_tf.whitening import Whitening as Whitening
else:

    def __getattr__(name):
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


__all__ = ["__version__", *_PUBLIC]


def __dir__() -> list[str]:
    return sorted(__all__)
