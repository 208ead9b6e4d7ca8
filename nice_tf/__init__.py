"""NICE (Dinh, Krueger & Bengio 2014): exact densities by additive coupling, for TensorFlow Probability."""

import importlib

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

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
