"""Every setting, its default and what it means. A yaml or `KEY VALUE` on the command line may change these and no others.

Key names are those of the HigherHRNet family where the family has the setting.
"""

from __future__ import annotations

from yacs.config import CfgNode as CN


def default_config() -> CN:
    """A fresh tree of defaults; nothing is shared between two calls."""
    cfg = CN()

    cfg.OUTPUT_DIR = "output"  # runs go to OUTPUT_DIR/<dataset>/<model>/<config name>/
    cfg.LOG_DIR = "log"  # TensorBoard event files, same sub-folders
    cfg.DEVICE = "auto"  # auto: CUDA if present, else CPU; or cpu, cuda, mps
    cfg.GPUS = 1  # processes on this machine when tools are started plainly; --gpus overrides
    cfg.WORKERS = 4  # loader processes per training process
    cfg.THREADS = 0  # torch threads per process; 0: leave torch's choice
    cfg.PRINT_FREQ = 100  # steps between log lines
    cfg.AUTO_RESUME = False  # go on from the run folder's checkpoint if there is one
    cfg.SEED = 0  # of everything random: weights, order, augmentation
    cfg.DETERMINISTIC = False  # refuse kernels that give other bits in a rerun (slower on CUDA)
    cfg.VERBOSE = True  # progress bars and notices

    cfg.CUDNN = CN()
    cfg.CUDNN.BENCHMARK = True
    cfg.CUDNN.ENABLED = True
    cfg.CUDNN.TF32 = True  # allow TF32 in fp32 convolutions and products

    cfg.FP16 = CN()
    cfg.FP16.ENABLED = False  # mixed precision by torch.amp
    cfg.FP16.DTYPE = "fp16"  # fp16 | bf16
    cfg.FP16.DYNAMIC_LOSS_SCALE = (
        False  # fp16 only: start at 2**16, halve at an overflow, double after 1000 good steps
    )
    cfg.FP16.STATIC_LOSS_SCALE = 1.0  # fp16 only: the scale used when DYNAMIC_LOSS_SCALE is off

    cfg.MODEL = CN()
    cfg.MODEL.NAME = "pose_higher_hrnet_de"  # pose_higher_hrnet_de (Double Embedding) | pose_higher_hrnet (the baseline)
    cfg.MODEL.WIDTH = 32  # channels of the stride-4 branch; the others have 2, 4, 8 times as many
    cfg.MODEL.MODULES = [1, 4, 3]  # HRNet modules in stages 2, 3, 4
    cfg.MODEL.BLOCKS = 4  # residual blocks per branch and module, and in layer1
    cfg.MODEL.STEM_CHANNELS = 64  # of the two stem convolutions and of layer1's bottlenecks
    cfg.MODEL.UPSAMPLE = ""  # of coarser branches: nearest (HigherHRNet) | bilinear (public DE) | empty: as MODEL.NAME's public weights
    cfg.MODEL.DECONV_CHANNELS = 0  # of the stride-2 head; 0: WIDTH
    cfg.MODEL.DECONV_BLOCKS = 4  # basic blocks after the deconvolution
    cfg.MODEL.HEAD_BLOCKS = 3  # bottlenecks at the start of each Double Embedding head
    cfg.MODEL.REVERSE_OFFSETS = (
        False  # two more maps per limb: from the parent's window to the child
    )
    cfg.MODEL.OFFSET_UNIT = 64.0  # input pixels that 1.0 in the offset maps means; public DE weights trained at 512: 724.077
    cfg.MODEL.SYNC_BN = False  # batch statistics over all GPUs
    cfg.MODEL.CHANNELS_LAST = True  # memory layout; faster on most hardware, same numbers
    cfg.MODEL.CHECKPOINT_ACTIVATIONS = (
        False  # recompute activations in the backward pass: less memory, about a third slower
    )
    cfg.MODEL.PRETRAINED = ""  # weights to start training from (ImageNet HRNet, HigherHRNet, public DE, ours); empty: random
    cfg.MODEL.INIT_WEIGHTS = True  # the family's random initialisation (normal, std 0.001)

    cfg.DATASET = CN()
    cfg.DATASET.DATASET = "coco"  # coco | crowdpose | mpii: the benchmark whose metric is used, and the run folder's name
    cfg.DATASET.ROOT = "data/coco"
    cfg.DATASET.TRAIN = "train2017"  # split names; annotations/person_keypoints_SPLIT.json and images/SPLIT/ or SPLIT/
    cfg.DATASET.TEST = "val2017"
    cfg.DATASET.TRAIN_ANNOTATIONS = (
        ""  # a path (absolute, or below ROOT) where the layout above does not hold
    )
    cfg.DATASET.TEST_ANNOTATIONS = ""
    cfg.DATASET.TRAIN_IMAGES = ""  # a folder or zip (absolute, or below ROOT), likewise
    cfg.DATASET.TEST_IMAGES = ""
    cfg.DATASET.DATA_FORMAT = (
        "jpg"  # jpg: images are files | zip: images lie in images/SPLIT.zip or SPLIT.zip
    )
    cfg.DATASET.SKELETON = (
        ""  # coco | crowdpose | mpii | path of a yaml; empty: the skeleton of DATASET.DATASET
    )
    cfg.DATASET.LIMIT = 0  # use only the first n images of each split; 0: all
    cfg.DATASET.MAX_NUM_PEOPLE = (
        30  # people per image used in a training step; more are normal, the largest are kept
    )
    cfg.DATASET.INPUT_SIZE = 512  # side of the training square; short side in testing
    cfg.DATASET.SIGMA = 2.0  # of the Gaussians, in cells
    cfg.DATASET.HEATMAP_CENTRES = "subpixel"  # subpixel: Gaussian at the true position | rounded: at the floored cell, the family's way
    cfg.DATASET.OFFSET_RADIUS = 7  # offsets are taught in a window of (2 r + 1)**2 cells
    cfg.DATASET.MAX_ROTATION = 30.0  # degrees either way
    cfg.DATASET.MIN_SCALE = 0.75
    cfg.DATASET.MAX_SCALE = 1.5
    cfg.DATASET.SCALE_TYPE = (
        "short"  # short: scale 1 shows the whole short side | long: the whole long side
    )
    cfg.DATASET.MAX_TRANSLATE = 40.0  # either way, in 200ths of the square's side (the family: pixels times the scale in units of 200 px)
    cfg.DATASET.FLIP = 0.5  # probability of mirroring

    cfg.LOSS = CN()
    cfg.LOSS.HEATMAPS_LOSS_FACTOR = [1.0, 1.0]  # for strides 4 and 2
    cfg.LOSS.CENTER_WEIGHT = 5.0  # of the centre channel within the heatmap loss
    cfg.LOSS.FOREGROUND_WEIGHT = 0.0  # added to a heatmap cell's weight in proportion to its target; 0: the family's plain squared error
    cfg.LOSS.AE_LOSS_TYPE = "exp"  # push term: exp | max (hinge)
    cfg.LOSS.PUSH_LOSS_FACTOR = 0.001
    cfg.LOSS.PULL_LOSS_FACTOR = 0.001
    cfg.LOSS.OFFSETS_LOSS_FACTOR = [
        0.02,
        0.02,
    ]  # for strides 4 and 2; the public 2.0 belongs to OFFSETS_AREA map
    cfg.LOSS.OFFSETS_AREA = "windows"  # windows: only the joints' windows count | map: the whole map, background 0, as public DE
    cfg.LOSS.OFFSETS_BETA = (
        0.1  # smooth L1 turns linear at this error, in MODEL.OFFSET_UNIT; public DE: 1.0
    )

    cfg.TRAIN = CN()
    cfg.TRAIN.IMAGES_PER_GPU = 12
    cfg.TRAIN.TOTAL_BATCH = 0  # images per step the recipe was made for; 0: not stated. A run that differs gets a warning
    cfg.TRAIN.BEGIN_EPOCH = 0
    cfg.TRAIN.END_EPOCH = 300
    cfg.TRAIN.SHUFFLE = True
    cfg.TRAIN.VAL_EVERY = (
        10  # epochs between validations; the last epoch is always validated; 0: never
    )
    cfg.TRAIN.OPTIMIZER = "adam"  # adam | adamw | sgd
    cfg.TRAIN.LR = 0.001
    cfg.TRAIN.LR_SCHEDULE = (
        "step"  # step: times LR_FACTOR at each of LR_STEP | cosine: to LR * LR_FACTOR at END_EPOCH
    )
    cfg.TRAIN.LR_STEP = [200, 260]  # epochs
    cfg.TRAIN.LR_FACTOR = 0.1
    cfg.TRAIN.WARMUP = 0  # steps over which the learning rate rises from 0
    cfg.TRAIN.WD = (
        0.0  # weight decay; not applied to biases and normalisation where the optimizer is adamw
    )
    cfg.TRAIN.MOMENTUM = 0.9  # sgd
    cfg.TRAIN.NESTEROV = False  # sgd
    cfg.TRAIN.FUSED = True  # one kernel for the optimizer's update where torch has one
    cfg.TRAIN.ACCUMULATE = 1  # batches whose gradients are averaged before a step
    cfg.TRAIN.CLIP_GRAD_NORM = 0.0  # 0: off
    cfg.TRAIN.EMA = 0.0  # decay of the averaged weights that are validated and saved; 0: off
    cfg.TRAIN.COMPILE = False  # torch.compile the network
    cfg.TRAIN.CHECKPOINT_EVERY = 0  # steps between checkpoints within an epoch; 0: only at its end

    cfg.TEST = CN()
    cfg.TEST.MODEL_FILE = (
        ""  # weights; empty: the run folder's model_best.pth, else model_final.pth
    )
    cfg.TEST.IMAGES_PER_GPU = (
        1  # images of one input size run together; the CPU takes them one at a time
    )
    cfg.TEST.PROTOCOL = ""  # single | flip | multiscale (0.5, 1, 2 with flip); empty: FLIP_TEST and SCALE_FACTOR as they stand
    cfg.TEST.FLIP_TEST = True
    cfg.TEST.SCALE_FACTOR = [1.0]
    cfg.TEST.EVALUATOR = "hotcoco"  # hotcoco | pycocotools (same numbers, slower)
    cfg.TEST.MPII_REGION = "groups"  # groups: the benchmark's groups of people, each by itself | images: all of each image is scored
    cfg.TEST.PRESET = "leaderboard"  # leaderboard: everything that raises AP | clean: no filled joints, PERSON_THRESHOLD, no duplicates
    cfg.TEST.MAX_PEOPLE = 100  # people at most; twice as many peaks per keypoint
    cfg.TEST.NMS_KERNEL = 5  # cells; a peak is the largest in this square
    cfg.TEST.NMS_KERNEL_CENTER = 7
    cfg.TEST.DETECTION_THRESHOLD = 0.1  # heatmap value of a peak
    cfg.TEST.TAG_THRESHOLD = 1.0  # baseline: tags further apart are of different people
    cfg.TEST.PERSON_THRESHOLD = (
        0.2  # people with a lower score are not drawn, and in preset clean dropped
    )
    cfg.TEST.ADJUST = True  # sub-pixel position from the heatmap's shape
    cfg.TEST.REFINE = True  # fill joints that were not found
    cfg.TEST.MRM = "precision"  # off | paper | precision: the Mutual Refine Machine
    cfg.TEST.PEAK_SIGMA = (
        0.1  # MRM: error of a peak of height 0, in person sizes; it falls to none at height 1
    )
    cfg.TEST.TAG_SIGMA = (
        0.3  # grouping: spread of one person's tags, beside which differences are judged
    )
    cfg.TEST.OFFSET_SIGMA = 4.0  # grouping and MRM: error of an offset in input pixels, to which the next is added in quadrature
    cfg.TEST.OFFSET_SIGMA_RELATIVE = (
        0.12  # grouping: error of an offset as share of the joint's longest offset
    )
    cfg.TEST.OUTLIERS = 0.02  # grouping: share of tags and offsets that are plain wrong; no single one can count more than its logarithm
    cfg.TEST.JOINT_THRESHOLD = (
        -3.0
    )  # grouping: log-likelihood ratio above which a peak may join a person
    cfg.TEST.SECONDARY_PENALTY = (
        1.0  # grouping: taken off for peaks in the shadow of a higher one (within NMS_KERNEL)
    )
    cfg.TEST.SURE_HEIGHT = 0.25  # grouping and filling: lower peaks are the less likely anybody's
    cfg.TEST.HEIGHT_WEIGHT = (
        6.0  # of log(height / SURE_HEIGHT), added to the log-likelihood ratio of such a peak
    )
    cfg.TEST.START_THRESHOLD = (
        0.25  # grouping: height of a peak that may start a person without a centre peak
    )
    cfg.TEST.SWEEPS = (
        3  # grouping: rounds of assignment at most; it ends earlier when nothing changes
    )
    cfg.TEST.FILL_RADIUS = 1  # filling: cells of the tag maps round a peak in which a second person's tag is looked for
    cfg.TEST.FILL_THRESHOLD = (
        -5.0
    )  # filling: log-likelihood ratio above which somebody's peak fills a missing joint
    cfg.TEST.FILL_WORTH = 0.0  # share of a filled joint's score that counts in the person's
    cfg.TEST.DUPLICATE_WORTH = 0.1  # factor on the score of people who lie where a better one does; preset clean drops them
    cfg.TEST.LOG_PROGRESS = True

    cfg.DEBUG = CN()
    cfg.DEBUG.SAVE_PREDICTIONS = 0  # images drawn with their people into results/images/
    return cfg
