"""NICE (Dinh, Krueger & Bengio 2014): exact densities by additive coupling, for TensorFlow
Probability.
"""

import importlib
from typing import TYPE_CHECKING

from nice_tf.version import __version__

# Public name -> the module it lives in. Loaded at first use, so that `nice-tf train --help` answers
# at once and the commands can quieten TensorFlow before it starts.
_PUBLIC = {
    "AdditiveCoupling": "bijectors.coupling",
    "Center": "bijectors.diagonal",
    "Config": "config",
    "ConvNet": "bijectors.convolutions",
    "DiagonalScaling": "bijectors.diagonal",
    "FlowServer": "serving.signatures",
    "FrozenMLP": "bijectors.conditioners",
    "MLP": "bijectors.conditioners",
    "Model": "scoring.model",
    "QuantileTransform": "bijectors.marginals",
    "Standardize": "bijectors.diagonal",
    "TriangularWhitening": "bijectors.whitening",
    "UserError": "errors",
    "Whitening": "bijectors.whitening",
    "bits_per_dim": "evaluation.metrics",
    "build_flow": "flows.flow",
    "condition": "flows.density",
    "conditional_scales": "flows.analysis",
    "context_kwargs": "flows.density",
    "denoise": "flows.analysis",
    "dequantize": "data.units",
    "effective_dimension": "flows.analysis",
    "encoder": "flows.density",
    "export_flow": "serving.export",
    "export_saved_model": "serving.export",
    "fill_file": "scoring.files",
    "fit": "training.own_flow",
    "flow_from_layers": "flows.density",
    "freeze": "flows.flow",
    "gaussian_prior": "flows.priors",
    "initialize_from_data": "flows.initialization",
    "inpaint": "flows.inpainting",
    "interpolate": "flows.analysis",
    "inverse_scales": "flows.analysis",
    "layers": "flows.density",
    "load_flow": "runs.finished",
    "logistic_mixture_prior": "flows.mixtures",
    "logistic_prior": "flows.priors",
    "make_mask": "flows.inpainting",
    "num_parameters": "flows.summary",
    "rank_log_prob": "flows.ranks",
    "read_flagfile": "cli.config_flags",
    "reconstruct": "flows.analysis",
    "sample": "flows.flow",
    "sample_file": "scoring.files",
    "score_file": "scoring.files",
    "sphere_codes": "flows.analysis",
    "summary": "flows.summary",
    "train_and_evaluate": "training.run",
}

if TYPE_CHECKING:  # the same names for type checkers and the API reference, which run nothing
    from nice_tf.bijectors.conditioners import MLP as MLP
    from nice_tf.bijectors.conditioners import FrozenMLP as FrozenMLP
    from nice_tf.bijectors.convolutions import ConvNet as ConvNet
    from nice_tf.bijectors.coupling import AdditiveCoupling as AdditiveCoupling
    from nice_tf.bijectors.diagonal import Center as Center
    from nice_tf.bijectors.diagonal import DiagonalScaling as DiagonalScaling
    from nice_tf.bijectors.diagonal import Standardize as Standardize
    from nice_tf.bijectors.marginals import QuantileTransform as QuantileTransform
    from nice_tf.bijectors.whitening import TriangularWhitening as TriangularWhitening
    from nice_tf.bijectors.whitening import Whitening as Whitening
    from nice_tf.cli.config_flags import read_flagfile as read_flagfile
    from nice_tf.config import Config as Config
    from nice_tf.data.units import dequantize as dequantize
    from nice_tf.errors import UserError as UserError
    from nice_tf.evaluation.metrics import bits_per_dim as bits_per_dim
    from nice_tf.flows.analysis import conditional_scales as conditional_scales
    from nice_tf.flows.analysis import denoise as denoise
    from nice_tf.flows.analysis import effective_dimension as effective_dimension
    from nice_tf.flows.analysis import interpolate as interpolate
    from nice_tf.flows.analysis import inverse_scales as inverse_scales
    from nice_tf.flows.analysis import reconstruct as reconstruct
    from nice_tf.flows.analysis import sphere_codes as sphere_codes
    from nice_tf.flows.density import condition as condition
    from nice_tf.flows.density import context_kwargs as context_kwargs
    from nice_tf.flows.density import encoder as encoder
    from nice_tf.flows.density import flow_from_layers as flow_from_layers
    from nice_tf.flows.density import layers as layers
    from nice_tf.flows.flow import build_flow as build_flow
    from nice_tf.flows.flow import freeze as freeze
    from nice_tf.flows.flow import sample as sample
    from nice_tf.flows.initialization import initialize_from_data as initialize_from_data
    from nice_tf.flows.inpainting import inpaint as inpaint
    from nice_tf.flows.inpainting import make_mask as make_mask
    from nice_tf.flows.mixtures import logistic_mixture_prior as logistic_mixture_prior
    from nice_tf.flows.priors import gaussian_prior as gaussian_prior
    from nice_tf.flows.priors import logistic_prior as logistic_prior
    from nice_tf.flows.ranks import rank_log_prob as rank_log_prob
    from nice_tf.flows.summary import num_parameters as num_parameters
    from nice_tf.flows.summary import summary as summary
    from nice_tf.runs.finished import load_flow as load_flow
    from nice_tf.scoring.files import fill_file as fill_file
    from nice_tf.scoring.files import sample_file as sample_file
    from nice_tf.scoring.files import score_file as score_file
    from nice_tf.scoring.model import Model as Model
    from nice_tf.serving.export import export_flow as export_flow
    from nice_tf.serving.export import export_saved_model as export_saved_model
    from nice_tf.serving.signatures import FlowServer as FlowServer
    from nice_tf.training.own_flow import fit as fit
    from nice_tf.training.run import train_and_evaluate as train_and_evaluate

else:

    def __getattr__(name):
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


__all__ = ["__version__", *_PUBLIC]


def __dir__() -> list[str]:
    return sorted(__all__)
