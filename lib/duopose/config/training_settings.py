"""The LOSS and TRAIN settings: loss terms, batches, optimizer, learning rate and checkpoints."""

from __future__ import annotations

from duopose.config.declaration import (
    BELOW_ONE,
    FACTOR_PER_STRIDE,
    NOT_NEGATIVE,
    NUMBERS,
    POSITIVE,
    SWITCH,
    Setting,
    one_of,
    whole_number,
)

LOSS = (
    Setting(
        "LOSS.HEATMAPS_LOSS_FACTOR",
        [1.0, 1.0],
        FACTOR_PER_STRIDE,
        "Factors of the heatmap losses at strides 4 and 2.",
    ),
    Setting(
        "LOSS.CENTER_WEIGHT",
        5.0,
        NOT_NEGATIVE,
        "Weight of the person-centre channel in the heatmap loss; keypoint channels have 1.",
    ),
    Setting(
        "LOSS.FOREGROUND_WEIGHT",
        0.0,
        NOT_NEGATIVE,
        "Weight w: a heatmap cell with target t has weight 1 + w t. 0: HigherHRNet's plain "
        "squared error.",
    ),
    Setting(
        "LOSS.AE_LOSS_TYPE",
        "exp",
        one_of("exp", "max"),
        "Push term of the tag loss. exp: exp(-d^2). max: the hinge max(0, 1 - |d|).",
    ),
    Setting("LOSS.PUSH_LOSS_FACTOR", 0.001, NOT_NEGATIVE, "Factor of the tags' push loss."),
    Setting("LOSS.PULL_LOSS_FACTOR", 0.001, NOT_NEGATIVE, "Factor of the tags' pull loss."),
    Setting(
        "LOSS.OFFSETS_LOSS_FACTOR",
        [0.02, 0.02],
        FACTOR_PER_STRIDE,
        "Factors of the offset losses at strides 4 and 2. Public DE's 2.0 belongs to "
        "OFFSETS_AREA map.",
    ),
    Setting(
        "LOSS.OFFSETS_AREA",
        "windows",
        one_of("windows", "map"),
        "Cells that the offset loss counts. windows: the joints' windows. map: the whole map with "
        "background 0, as in public DE.",
    ),
    Setting(
        "LOSS.OFFSETS_BETA",
        0.1,
        POSITIVE,
        "Error, in MODEL.OFFSET_UNIT, at which smooth L1 becomes linear. Public DE: 1.0.",
    ),
)

TRAIN = (
    Setting("TRAIN.IMAGES_PER_GPU", 12, whole_number(1, 100_000), "Batch size of one process."),
    Setting(
        "TRAIN.TOTAL_BATCH",
        0,
        NOT_NEGATIVE,
        "Images per optimizer step that the recipe was made for; a run with another number gets a "
        "warning. 0: not stated.",
    ),
    Setting("TRAIN.BEGIN_EPOCH", 0, NOT_NEGATIVE, "First epoch."),
    Setting("TRAIN.END_EPOCH", 300, POSITIVE, "Number of epochs."),
    Setting(
        "TRAIN.END_STEP",
        0,
        NOT_NEGATIVE,
        "Number of optimizer steps, for trainings of equal cost; the last epoch may then be "
        "shorter. 0: END_EPOCH counts. Else END_EPOCH has no effect.",
    ),
    Setting("TRAIN.SHUFFLE", True, SWITCH, "New random image order in every epoch."),
    Setting(
        "TRAIN.VAL_EVERY",
        10,
        NOT_NEGATIVE,
        "Epochs between two validations; the last epoch is always validated. 0: never validate.",
    ),
    Setting("TRAIN.OPTIMIZER", "adam", one_of("adam", "adamw", "sgd"), "Optimizer."),
    Setting("TRAIN.LR", 0.001, POSITIVE, "Learning rate."),
    Setting(
        "TRAIN.LR_SCHEDULE",
        "step",
        one_of("step", "cosine"),
        "step: the rate is multiplied by LR_FACTOR at each epoch of LR_STEP. cosine: it falls "
        "to LR * LR_FACTOR at END_EPOCH or END_STEP.",
    ),
    Setting("TRAIN.LR_STEP", [200, 260], NUMBERS, "Epochs of the step schedule."),
    Setting("TRAIN.LR_FACTOR", 0.1, NOT_NEGATIVE, "See LR_SCHEDULE."),
    Setting("TRAIN.WARMUP", 0, NOT_NEGATIVE, "Steps in which the learning rate rises from 0."),
    Setting(
        "TRAIN.WD",
        0.0,
        NOT_NEGATIVE,
        "Weight decay. adamw does not apply it to biases and normalisation.",
    ),
    Setting("TRAIN.MOMENTUM", 0.9, BELOW_ONE, "Momentum of sgd."),
    Setting("TRAIN.NESTEROV", False, SWITCH, "Nesterov momentum of sgd."),
    Setting("TRAIN.FUSED", True, SWITCH, "The optimizer's fused kernel, where torch has one."),
    Setting(
        "TRAIN.ACCUMULATE",
        1,
        POSITIVE,
        "Batches whose gradients are averaged for one optimizer step.",
    ),
    Setting(
        "TRAIN.CLIP_GRAD_NORM", 0.0, NOT_NEGATIVE, "Largest norm of the gradients. 0: no clipping."
    ),
    Setting(
        "TRAIN.EMA",
        0.0,
        BELOW_ONE,
        "Decay of the exponential moving average of the weights, which is then validated and "
        "saved. 0: no average.",
    ),
    Setting("TRAIN.COMPILE", False, SWITCH, "Run the network through torch.compile."),
    Setting(
        "TRAIN.CALIBRATE",
        True,
        SWITCH,
        "At the end, calibrate model_best.pth and model_final.pth on training images "
        "(docs/calibration.md).",
    ),
    Setting(
        "TRAIN.CHECKPOINT_EVERY",
        0,
        NOT_NEGATIVE,
        "Steps between two checkpoints within an epoch. 0: only at the end of an epoch.",
    ),
)
