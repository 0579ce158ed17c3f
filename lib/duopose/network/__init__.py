"""The networks: HRNet, the heads of Double Embedding, the HigherHRNet baseline, and their weights."""

from duopose.network.build import build_network
from duopose.network.weights import LoadReport, ModelFile, load_weights, read_model_file, save_model

__all__ = [
    "LoadReport",
    "ModelFile",
    "build_network",
    "load_weights",
    "read_model_file",
    "save_model",
]
