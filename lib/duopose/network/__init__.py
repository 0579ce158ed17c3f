"""The networks: backbones, heads, building them from settings, and reading and writing weights."""

from duopose.network.build import build_network
from duopose.network.model_file import ModelFile, read_model_file, save_model
from duopose.network.pose_net import PoseNet
from duopose.network.weights import LoadReport, load_weights, translate_state_dict

__all__ = [
    "LoadReport",
    "ModelFile",
    "PoseNet",
    "build_network",
    "load_weights",
    "read_model_file",
    "save_model",
    "translate_state_dict",
]
