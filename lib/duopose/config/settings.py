"""All settings and their defaults: those of a run, the network and the data here, others imported.

LOSS and TRAIN are in `training_settings.py`, TEST and DEBUG in `evaluation_settings.py`, LIMITS in
`limits_settings.py`. A yaml or `KEY VALUE` on the command line may change these keys and no others.
Key names are those of HigherHRNet and public DE where they have the setting. After a change write
docs/settings.md anew:

    python -m duopose.config.settings_page
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

from yacs.config import CfgNode

from duopose.config.declaration import (
    FRACTION,
    MULTIPLE_OF_32,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SWITCH,
    TEXT,
    THREE_POSITIVE,
    Setting,
    one_of,
    whole_number,
)
from duopose.config.evaluation_settings import DEBUG, TEST
from duopose.config.limits_settings import LIMITS
from duopose.config.training_settings import LOSS, TRAIN

RUN = (
    Setting(
        "OUTPUT_DIR",
        "output",
        TEXT,
        "Folder of the runs; a run writes to `OUTPUT_DIR/<dataset>/<model>/<config name>/`.",
    ),
    Setting("LOG_DIR", "log", TEXT, "Folder of the TensorBoard event files; same sub-folders."),
    Setting(
        "DEVICE",
        "auto",
        one_of("auto", "cpu", "cuda", "mps"),
        "Device to compute on. auto: CUDA if present, else the CPU.",
    ),
    Setting(
        "GPUS",
        1,
        whole_number(1, 1024),
        "Processes on this machine if a tool is started without torchrun; --gpus overrides it.",
    ),
    Setting("WORKERS", 4, whole_number(0, 1024), "Data loader processes per training process."),
    Setting(
        "THREADS",
        0,
        whole_number(0, 4096),
        "torch CPU threads per process. 0: torch chooses the number.",
    ),
    Setting(
        "DATA_TIMEOUT",
        600.0,
        NOT_NEGATIVE,
        "Seconds to wait for images before a run ends with a message. 0: no limit.",
    ),
    Setting("PRINT_FREQ", 100, POSITIVE, "Training steps between two log lines."),
    Setting(
        "AUTO_RESUME",
        False,
        SWITCH,
        "Continue from the checkpoint in the run folder if there is one.",
    ),
    Setting("SEED", 0, SEED, "Seed of the initial weights, the image order and augmentation."),
    Setting(
        "DETERMINISTIC",
        False,
        SWITCH,
        "Use only kernels that give the same bits in every run (slower on CUDA).",
    ),
    Setting("VERBOSE", True, SWITCH, "Show progress bars and notices."),
)

CUDNN = (
    Setting("CUDNN.BENCHMARK", True, SWITCH, "Let cuDNN measure which kernel is the fastest."),
    Setting("CUDNN.ENABLED", True, SWITCH, "Use cuDNN."),
    Setting("CUDNN.TF32", True, SWITCH, "Allow TF32 in fp32 convolutions and matrix products."),
)

FP16 = (
    Setting("FP16.ENABLED", False, SWITCH, "Mixed precision with torch.amp."),
    Setting("FP16.DTYPE", "fp16", one_of("fp16", "bf16"), "The 16-bit type of mixed precision."),
    Setting(
        "FP16.DYNAMIC_LOSS_SCALE",
        True,
        SWITCH,
        "fp16 only: the loss scale starts at 2^16, is halved at an overflow and doubled after "
        "1000 steps without one.",
    ),
    Setting(
        "FP16.STATIC_LOSS_SCALE",
        1.0,
        POSITIVE,
        "fp16 only: the loss scale where DYNAMIC_LOSS_SCALE is off. Given alone, it switches "
        "DYNAMIC_LOSS_SCALE off.",
    ),
)

MODEL = (
    Setting(
        "MODEL.NAME",
        "pose_higher_hrnet_de",
        one_of("pose_higher_hrnet_de", "pose_higher_hrnet"),
        "The method. pose_higher_hrnet_de: Double Embedding. pose_higher_hrnet: HigherHRNet, the "
        "baseline, which groups by tags alone.",
    ),
    Setting(
        "MODEL.BACKBONE",
        "hrnet",
        TEXT,  # checked by build_network, so that a new backbone is declared in one place
        "The backbone: hrnet, resnet50 (ResNet-50 with a top-down neck), or another name in "
        "`BACKBONES` of lib/duopose/network/build.py.",
    ),
    Setting(
        "MODEL.WIDTH",
        32,
        whole_number(1, 1024),
        "Channels of the backbone's stride-4 features. HRNet's other branches have 2, 4 and 8 "
        "times as many. Double Embedding needs a multiple of 4.",
    ),
    Setting(
        "MODEL.MODULES", [1, 4, 3], THREE_POSITIVE, "hrnet only: modules in stages 2, 3 and 4."
    ),
    Setting(
        "MODEL.BLOCKS",
        4,
        whole_number(1, 100),
        "hrnet only: residual blocks per branch of a module, and in layer1.",
    ),
    Setting(
        "MODEL.STEM_CHANNELS",
        64,
        whole_number(1, 4096),
        "hrnet only: channels of the two stem convolutions and of the bottlenecks in layer1.",
    ),
    Setting(
        "MODEL.UPSAMPLE",
        "",
        one_of("", "nearest", "bilinear"),
        "hrnet only: upsampling of coarser branches. HigherHRNet's weights need nearest, those of "
        "public DE bilinear. '': that of the public weights of MODEL.NAME.",
    ),
    Setting(
        "MODEL.DECONV_CHANNELS",
        0,
        whole_number(0, 4096),
        "Channels after the deconvolution to stride 2. 0: as many as WIDTH.",
    ),
    Setting(
        "MODEL.DECONV_BLOCKS", 4, whole_number(0, 100), "Basic blocks after the deconvolution."
    ),
    Setting(
        "MODEL.HEAD_BLOCKS",
        3,
        whole_number(0, 100),
        "Bottlenecks at the start of each Double Embedding head.",
    ),
    Setting(
        "MODEL.FINE_OFFSETS",
        True,
        SWITCH,
        "Double Embedding: offset maps at stride 2 too, as published. False: at stride 4 only; a "
        "training step of the demo's network is then a quarter faster.",
    ),
    Setting(
        "MODEL.REVERSE_OFFSETS",
        False,
        SWITCH,
        "Two more offset maps per limb joint, in the parent's window: the offset to the child. "
        "The Mutual Refine Machine uses them. Public DE has none.",
    ),
    Setting(
        "MODEL.OFFSET_UNIT",
        64.0,
        POSITIVE,
        "Length, in input pixels, of the value 1.0 in the offset maps. Weights of public DE "
        "trained at 512: 724.077, the diagonal of the input.",
    ),
    Setting("MODEL.SYNC_BN", False, SWITCH, "Batch normalisation over the batches of all GPUs."),
    Setting(
        "MODEL.CHANNELS_LAST",
        True,
        SWITCH,
        "Channels-last memory layout: faster on most hardware, same results.",
    ),
    Setting(
        "MODEL.CHECKPOINT_ACTIVATIONS",
        False,
        SWITCH,
        "Activation checkpointing: less memory, training is about a third slower.",
    ),
    Setting(
        "MODEL.PRETRAINED",
        "",
        TEXT,
        "Weight file to start training from: ImageNet HRNet or ResNet-50, HigherHRNet, public DE "
        "or Duopose. '': random weights.",
    ),
    Setting(
        "MODEL.INIT_WEIGHTS",
        True,
        SWITCH,
        "HigherHRNet's random initialisation: normal distribution, deviation 0.001. False: "
        "torch's own.",
    ),
)

DATASET = (
    Setting(
        "DATASET.DATASET",
        "coco",
        TEXT,  # checked by `benchmarks.build_benchmark`
        "Benchmark, a record of lib/duopose/benchmarks.py: coco, crowdpose or mpii. Selects the "
        "metric, the file layout and the name of the run folder.",
    ),
    Setting("DATASET.ROOT", "data/coco", TEXT, "Folder of the data set."),
    Setting(
        "DATASET.TRAIN",
        "train2017",
        TEXT,
        "Name of the training split. For COCO: annotations/person_keypoints_SPLIT.json and "
        "images/SPLIT/ or SPLIT/ below ROOT.",
    ),
    Setting("DATASET.TEST", "val2017", TEXT, "Name of the split for validation and testing."),
    Setting(
        "DATASET.TRAIN_ANNOTATIONS",
        "",
        TEXT,
        "Annotation file of the training split (absolute, or below ROOT). '': from the layout.",
    ),
    Setting(
        "DATASET.TEST_ANNOTATIONS",
        "",
        TEXT,
        "Annotation file of the test split (absolute, or below ROOT). '': from the layout.",
    ),
    Setting(
        "DATASET.TRAIN_IMAGES",
        "",
        TEXT,
        "Folder or zip of the training images (absolute, or below ROOT). '': from the layout.",
    ),
    Setting(
        "DATASET.TEST_IMAGES",
        "",
        TEXT,
        "Folder or zip of the test images (absolute, or below ROOT). '': from the layout.",
    ),
    Setting(
        "DATASET.DATA_FORMAT",
        "jpg",
        one_of("jpg", "zip"),
        "jpg: images are files in a folder. zip: they are in images/SPLIT.zip or SPLIT.zip.",
    ),
    Setting(
        "DATASET.SKELETON",
        "",
        TEXT,
        "Skeleton: coco, crowdpose, mpii or the path of a yaml (docs/own_data.md). '': the "
        "skeleton of DATASET.DATASET.",
    ),
    Setting(
        "DATASET.ON_BAD_SAMPLE",
        "stop",
        one_of("stop", "skip"),
        "An image that is missing, unreadable, too large or not of the annotated size, or a record "
        "that cannot be used. stop: an error. skip: a counted warning; in training the next image "
        "of the list takes its place, in evaluation the image counts as one without people found.",
    ),
    Setting("DATASET.LIMIT", 0, NOT_NEGATIVE, "Use only the first n images of a split. 0: all."),
    Setting(
        "DATASET.MAX_NUM_PEOPLE",
        30,
        whole_number(1, 10_000),
        "People per image that a training step uses at most; the largest people are kept.",
    ),
    Setting(
        "DATASET.INPUT_SIZE",
        512,
        MULTIPLE_OF_32,
        "Side of the square training input in pixels; in testing the short side of the input.",
    ),
    Setting(
        "DATASET.SIGMA", 2.0, POSITIVE, "Standard deviation of the target Gaussians in map cells."
    ),
    Setting(
        "DATASET.HEATMAP_CENTRES",
        "subpixel",
        one_of("subpixel", "rounded"),
        "Centre of a target Gaussian. subpixel: the exact position. rounded: the floored cell, as "
        "in HigherHRNet and public DE.",
    ),
    Setting(
        "DATASET.OFFSET_RADIUS",
        7,
        whole_number(0, 1000),
        "Radius r, in map cells, of the window round a joint in which offsets are supervised: "
        "(2 r + 1)^2 cells.",
        field="offset_radius",
    ),
    Setting(
        "DATASET.MAX_ROTATION", 30.0, NOT_NEGATIVE, "Augmentation: largest rotation in degrees."
    ),
    Setting("DATASET.MIN_SCALE", 0.75, POSITIVE, "Augmentation: smallest scale."),
    Setting("DATASET.MAX_SCALE", 1.5, POSITIVE, "Augmentation: largest scale."),
    Setting(
        "DATASET.SCALE_TYPE",
        "short",
        one_of("short", "long"),
        "Augmentation: the image side that fills the input at scale 1.",
    ),
    Setting(
        "DATASET.MAX_TRANSLATE",
        40.0,
        NOT_NEGATIVE,
        "Augmentation: largest shift, in 1/200 of the side of the square that is cut out. "
        "HigherHRNet: pixels times the scale in units of 200 pixels, which is the same.",
    ),
    Setting("DATASET.FLIP", 0.5, FRACTION, "Augmentation: probability of a horizontal flip."),
    Setting(
        "DATASET.MOSAIC",
        0.0,
        FRACTION,
        "Augmentation: probability that a training sample is a mosaic, four images on one canvas. "
        "0.5 suits small data sets and photographs of single people.",
    ),
)

SECTIONS = {
    "": RUN,
    "CUDNN": CUDNN,
    "FP16": FP16,
    "MODEL": MODEL,
    "DATASET": DATASET,
    "LOSS": LOSS,
    "TRAIN": TRAIN,
    "TEST": TEST,
    "DEBUG": DEBUG,
    "LIMITS": LIMITS,
}
SETTINGS = {setting.key: setting for section in SECTIONS.values() for setting in section}


def default_config() -> CfgNode:
    """A fresh tree of the defaults; nothing is shared between two calls."""
    return _tree(SETTINGS.values())


def _tree(settings: Iterable[Setting]) -> CfgNode:
    cfg = CfgNode()
    for setting in settings:
        section, _, name = setting.key.rpartition(".")
        if section and section not in cfg:
            cfg[section] = CfgNode()

        node = cfg[section] if section else cfg
        node[name] = deepcopy(setting.default)
    return cfg
