"""Hostile inputs, each with the tool that reads them: several hundred, made by code."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from tests.trust.outside.template import TRAIN, TRUTH
from tests.trust.outside.watching import Streams

Prepare = Callable[[Path], object]  # gets the user's folder


class Case(NamedTuple):
    """A call of a tool in a folder that was prepared."""

    name: str
    tool: str
    words: tuple[str, ...]
    prepare: Prepare = lambda _: None
    streams: Streams = Streams()


CFG = ("--cfg", "recipe.yaml")
SCORE = ("--results", "results.json", "--annotations", TRUTH)
REPORT = ("results.json", "--annotations", TRUTH)
PREDICT = ("photo.jpg", "--model", "model.pth", "--out", "o")
BROWSE = (*CFG, "--number", "4", "--out", "o")
ORACLE = ("--annotations", TRUTH, "--noise", "none", "--workers", "1", "--limit", "2")
LOAD = """
import duopose, sys
try:
    duopose.load("model.pth", "cpu")
except duopose.errors.UserError as error:
    sys.exit(print(error, file=sys.stderr) or 2)
"""
JPEG = cv2.imencode(".jpg", np.full((64, 64, 3), 99, np.uint8))[1].tobytes()
FIRST_IMAGE = "data/images/train2017/000000000001.jpg"

# Values that break readers: of other types, at the limits, far beyond them, ways out.
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e9, 1e300, float("nan"), 2**70, "x", "", "\x1b[2J\x07", "a\0b", "x" * 9999,
    "9" * 5000, "../../../outside/secret.txt", "/dev/zero", [], [1], [[1]], {}, {"a": [1]},
)  # fmt: skip


def all_cases() -> Iterator[Case]:
    """Every case; the names are different."""
    for make in (special_files, planted_links, run_folders, metrics, truth, results, names,
                 images, videos, zips, weights, settings, command_lines, streams):  # fmt: skip
        yield from make()


# ---- files that are none ----


def cleared(path: Path) -> Path:
    """The path, with its folder and without what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def make_socket(path: Path) -> None:
    """A socket; its name may have a hundred letters at most."""
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def make_sparse(path: Path) -> None:
    """A terabyte without content."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
    "folder": Path.mkdir,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "socket": make_socket,
    "sparse": make_sparse,
    "empty": Path.touch,
    "zeros": lambda path: path.write_bytes(bytes(100_000)),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 50),
}
READERS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "recipe.yaml": [("dist_train", CFG), ("valid", CFG), ("check_data", CFG), ("browse_data", CFG)],
    TRAIN: [("dist_train", CFG), ("check_data", CFG), ("browse_data", BROWSE)],
    TRUTH: [("valid", SCORE), ("report", REPORT), ("oracle", ORACLE)],
    FIRST_IMAGE: [("check_data", CFG), ("browse_data", BROWSE)],
    "results.json": [("valid", SCORE), ("report", REPORT)],
    "evaluated/metrics.json": [("valid", ("--compare", "evaluated", "run")),
                               ("report", ("evaluated",))],
    "model.pth": [("valid", ("--model", "model.pth")), ("predict", PREDICT), ("-c", (LOAD,)),
                  ("publish_model", ("model.pth", "o.pth")),
                  ("dist_train", (*CFG, "MODEL.PRETRAINED", "model.pth"))],
    "run/run.lock": [("runs", ("run",)), ("dist_train", ("--cfg", "run/config.yaml"))],
    "run/config.yaml": [("runs", ("run",)), ("report", ("run",))],
    "run/metrics.csv": [("runs", ("run",))],
    "run/checkpoint.pth": [("dist_train", (*CFG, "--resume", "run/checkpoint.pth"))],
    "photo.jpg": [("predict", PREDICT)],
    "clip.mp4": [("predict", ("clip.mp4", *PREDICT[1:]))],
    "images.zip": [("predict", ("images.zip", *PREDICT[1:]))],
    "skeleton.yaml": [("report", (*REPORT, "--skeleton", "skeleton.yaml")),
                      ("check_data", (*CFG, "DATASET.SKELETON", "skeleton.yaml"))],
    "study.yaml": [("study", ("plan", "study.yaml", "--out", "o"))],
    "list.txt": [("prepare_mpii", ("x.mat", "--val-list", "list.txt"))],
    "data/json/crowdpose_train.json": [("prepare_crowdpose", ("data",))],
}  # fmt: skip


def special_files() -> Iterator[Case]:
    """FIFOs, devices, folders, links ... in the place of each file that is read."""
    for place, readers in READERS.items():
        for kind, make in SPECIAL.items():
            for tool, words in readers:

                def prepare(
                    folder: Path, place: str = place, make: Callable[[Path], object] = make
                ) -> None:
                    make(cleared(folder / place))

                yield Case(f"{kind} as {place}, {tool}", tool, words, prepare)


WRITERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run/report.html": ("report", ("run",)),
    "results_metrics.json": ("valid", SCORE),
    "o.pth": ("publish_model", ("model.pth", "o.pth")),
    "o/predictions.json": ("predict", PREDICT),
    "o/predictions.csv": ("predict", (*PREDICT, "--csv")),
    "o/000001_photo.jpg": ("predict", PREDICT),
    "o/000001_clip.mp4": ("predict", ("clip.mp4", *PREDICT[1:])),
    "rows.json": ("oracle", (*ORACLE, "--json", "rows.json")),
    "run/run.lock": ("dist_train", ("--cfg", "run/config.yaml", "TRAIN.END_EPOCH", "2")),
    "run/results/unfinished_0.jsonl": ("valid", ("--cfg", "run/config.yaml", "DATASET.LIMIT", "1")),
}


def planted_links() -> Iterator[Case]:
    """Links to the canary in the place of each file that is written."""
    for place, (tool, words) in WRITERS.items():
        for target in ("secret.txt", "new.txt"):

            def prepare(folder: Path, place: str = place, target: str = target) -> None:
                path = cleared(folder / place)
                path.symlink_to(os.path.relpath(folder.parent / "outside" / target, path.parent))

            yield Case(f"link to {target} as {place}", tool, words, prepare)


# ---- contents ----


def written(place: str, content: str | bytes) -> Prepare:
    """Writes a file."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return lambda folder: cleared(folder / place).write_bytes(data)


def edited(place: str, edit: Callable[[Any], object]) -> Prepare:
    """Changes the content of a json file in place."""

    def prepare(folder: Path) -> None:
        content = json.loads((folder / place).read_text())
        edit(content)
        (folder / place).write_text(json.dumps(content))

    return prepare


def setting(*path: Any, value: Any) -> Callable[[Any], object]:
    """Sets one value below nested lists and mappings."""

    def edit(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return edit


def run_folders() -> Iterator[Case]:
    """Small files of a run by somebody else."""
    header = "step,epoch,kind,name,value\n"
    owner = {"host": "h", "process": 1, "process_start": "1", "started": "", "command": "c"}
    files: dict[str, list[str | bytes]] = {
        "metrics.csv": [header + "1,1,train,loss,1e308\n2,2,val,AP,-1e308\n", header + "1,inf," * 9,
                        header + "".join(f"1,1,train,n{n},1\n" for n in range(15_000)),
                        header + "1,1,val,\x1b[2J,1\n1,1,train,$\\bad$,1\n", "x" * 10_000_000],
        "run.lock": ["5", "[" * 60_000, b"\xff" * 99, json.dumps(owner | {"process": 10**30}),
                     json.dumps(owner | {"state": "failed", "reason": "\x1b[2J"})],
        "config.yaml": ["- 1\n", "SEED: " + "9" * 90, "TRAIN: {END_EPOCH: [x]}\n", "1: 2\n",
                        'DATASET: {ROOT: "a\\0b", DATASET: {a: 1}}\n', "a: " * 99, "? [1]\n: 2\n",
                        "".join(f"A{n}: 1\n" for n in range(5000))],
    }  # fmt: skip
    for name, contents in files.items():
        for number, content in enumerate(contents):
            for tool in ("runs", "report"):
                prepare = written(f"run/{name}", content)
                yield Case(f"{name} {number}, {tool}", tool, ("run",), prepare)


def metrics() -> Iterator[Case]:
    """Values of metrics.json."""
    paths = [("AP",), ("headline",), ("notes",), ("protocol",), ("protocol", "test_data"),
             ("protocol", "annotations"), ("protocol", "images"), ("protocol", "skeleton"),
             ("protocol", "scored"), ("protocol", "test_settings")]  # fmt: skip
    calls = (("valid", ("--compare", "evaluated", "evaluated")), ("report", ("evaluated",)))
    for path in paths:
        for number, value in enumerate(ODD):
            tool, words = calls[number % 2]
            prepare = edited("evaluated/metrics.json", setting(*path, value=value))
            yield Case(f"metrics {'.'.join(path)} {number}", tool, words, prepare)


def truth() -> Iterator[Case]:
    """Values of annotation files."""
    keys = ("keypoints", "bbox", "area", "iscrowd", "category_id", "segmentation", "id", "image_id")
    calls = ((TRAIN, "check_data", CFG), (TRAIN, "browse_data", BROWSE), (TRUTH, "valid", SCORE),
             (TRUTH, "report", REPORT))  # fmt: skip
    places = [*(("annotations", 0, key) for key in keys), ("images", 0, "width"), ("images",),
              ("images", 0, "height"), ("categories",), ("annotations",),
              ("images", 0)]  # fmt: skip
    for place in places:
        for number, value in enumerate(ODD):
            file, tool, words = calls[number % len(calls)]
            prepare = edited(file, setting(*place, value=value))
            yield Case(f"annotations {place} {number}, {tool}", tool, words, prepare)


def results() -> Iterator[Case]:
    """Values of results files."""
    for key in ("image_id", "category_id", "keypoints", "score"):
        for number, value in enumerate(ODD):
            tool, words = (("valid", SCORE), ("report", REPORT))[number % 2]
            prepare = edited("results.json", setting(0, key, value=value))
            yield Case(f"results {key} {number}, {tool}", tool, words, prepare)


def names() -> Iterator[Case]:
    """Names of files and ids that lead out, of any length and letters."""
    out = ("../../../outside/secret.jpg", "link.jpg", "folder/secret.jpg", ".", "a\nb", "~/x.jpg")

    def with_links(folder: Path) -> None:
        images = folder / "data" / "images" / "train2017"
        for name, target in (("link.jpg", "secret.jpg"), ("folder", "folder")):
            (images / name).symlink_to(f"../../../../outside/{target}")

    for key in ("file_name", "id"):
        for number, value in enumerate((*ODD, *out)):
            edit = edited(TRAIN, setting("images", 0, key, value=value))

            def prepare(folder: Path, edit: Prepare = edit) -> None:
                with_links(folder)
                edit(folder)

            for tool, words in (("check_data", CFG), ("browse_data", BROWSE)):
                yield Case(f"{key} {number}, {tool}", tool, words, prepare)


# ---- images, videos, zips ----


def png(width: int, height: int, depth: int, kind: int, data: bytes, extra: bytes = b"") -> bytes:
    """A PNG file; data: the rows with their filters."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = _chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + body + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_size(width: int, height: int) -> bytes:
    """A JPEG file that states another size."""
    start = JPEG.find(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def image_files() -> dict[str, bytes]:
    """Images that ask for much, or are damaged."""
    bomb = _chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000)))
    return {
        "no size": with_size(0, 0), "wide": with_size(65_500, 1800), "large": with_size(9000, 9000),
        "two": JPEG + JPEG, "fill bytes": b"\xff\xd8" + b"\xff" * 3_000_000, "html": b"<html>",
        "arithmetic": JPEG.replace(b"\xff\xc0", b"\xff\xc9"), "cut": JPEG[: len(JPEG) // 2],
        "segments": b"\xff\xd8" + b"\xff\xe1\0\2" * 500 + JPEG[2:], "tail": JPEG + bytes(10**7),
        "png bomb": png(64, 64, 8, 2, bytes(64 * 193), bomb), "png 0": png(0, 0, 8, 2, b""),
        "png short": png(64, 64, 8, 2, bytes(10)), "png long": png(64, 64, 8, 2, bytes(10**8)),
        "png large": png(9000, 9000, 16, 6, bytes(100)), "png depth": png(64, 64, 3, 9, bytes(99)),
        "ppm": b"P6\n10900 10900\n255\n", "ppm negative": b"P6\n-64 64\n255\n" + bytes(12_288),
        "sun": struct.pack(">8I", 0x59A66A95, 10_000, 10_000, 24, 300_000_000, 1, 0, 0),
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9000 +X 9000\n", "psd": b"8BPS\0\1",
        "svg": b'<svg><image href="../outside/secret.jpg"/></svg>', "eps": b"%!PS\n(x) run\n",
        "bmp": cv2.imencode(".bmp", np.zeros((8, 8, 3), np.uint8))[1].tobytes()[:18] + b"\xff" * 99,
        "tiff": cv2.imencode(".tiff", np.zeros((8, 8, 3), np.uint8))[1].tobytes()[:90],
    }  # fmt: skip


def images() -> Iterator[Case]:
    """The reader of images in three tools."""
    for name, content in image_files().items():
        yield Case(f"image {name}, predict", "predict", PREDICT, written("photo.jpg", content))
        for tool, words in (("check_data", CFG), ("browse_data", BROWSE)):
            yield Case(f"image {name}, {tool}", tool, words, written(FIRST_IMAGE, content))


def videos() -> Iterator[Case]:
    """Scripts, names that are protocols, damaged files."""
    scripts = {"concat": "ffconcat version 1.0\nfile link.mp4\n", "empty": "",
               "list": "#EXTM3U\n#EXTINF:1,\n../outside/secret.mp4\n", "riff": "RIFF0000AVI " * 99,
               "network": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n"}  # fmt: skip
    for name, text in scripts.items():
        for suffix in ("mp4", "ts", "avi"):

            def prepare(folder: Path, suffix: str = suffix, text: str = text) -> None:
                (folder / "link.mp4").symlink_to("../outside/secret.mp4")
                (folder / f"s.{suffix}").write_text(text)

            words = (f"s.{suffix}", *PREDICT[1:])
            yield Case(f"video {name}.{suffix}", "predict", words, prepare)

    for name in (
        "concat:clip.mp4",
        "%03d.mp4",
        "-i.mp4",
        "\x1b[2J.mp4",
        "pipe:0.mp4",
        "a\nb.mp4",
        "\udcff.mp4",
    ):

        def rename(folder: Path, name: str = name) -> None:
            (folder / "v").mkdir()
            (folder / "clip.mp4").rename(folder / "v" / name)

        yield Case(f"video named {name!r}", "predict", ("v", *PREDICT[1:]), rename)
    for number in range(1, 8):

        def cut(folder: Path, number: int = number) -> None:
            content = bytearray((folder / "clip.mp4").read_bytes())
            content[number * len(content) // 8 :: 97] = b""
            (folder / "clip.mp4").write_bytes(content)

        yield Case(f"video damaged {number}", "predict", ("clip.mp4", *PREDICT[1:]), cut)


def zips() -> Iterator[Case]:
    """Names and records of zips."""
    members = ("../../outside/secret.jpg", "/etc/passwd.jpg", "9" * 5000 + ".jpg", "\x1b[2J.jpg",
               "a/" * 30_000 + "x.jpg", "a.jpg/", "x.zip", "\udcff.jpg", "a\nb.jpg")  # fmt: skip
    words = ("images.zip", *PREDICT[1:])
    for number, member in enumerate(members):

        def prepare(folder: Path, member: str = member) -> None:
            with zipfile.ZipFile(folder / "images.zip", "w") as archive:
                info = zipfile.ZipInfo(member.encode("utf-8", "replace").decode())
                archive.writestr(info, JPEG)
                archive.writestr("good.jpg", JPEG)

        yield Case(f"zip member {number}", "predict", words, prepare)
    damages = [(b"PK\1\2", b"PK\1\3"), (JPEG[99:109], bytes(10)), (b"PK\3\4", b""),
               (b"PK\5\6\0\0", b"PK\5\6\xff\xff")]  # fmt: skip
    for number, (old, new) in enumerate(damages):

        def damage(folder: Path, old: bytes = old, new: bytes = new) -> None:
            content = (folder / "images.zip").read_bytes()
            (folder / "images.zip").write_bytes(content.replace(old, new))

        yield Case(f"zip damaged {number}", "predict", words, damage)


# ---- weights, settings, command lines, streams ----


def weights() -> Iterator[Case]:
    """Entries of a model file of other types, and damaged bytes."""
    values: tuple[Any, ...] = (
        None, 5, "x", "\x1b[2J", {}, [], "a: " * 99, "MODEL: {WIDTH: 100000}\n", torch.zeros(1),
        "SEED: " + "9" * 99, "DATASET: {SKELETON: ../outside/secret.txt}\n", "x" * 2_000_000,
    )  # fmt: skip
    calls = (("-c", (LOAD,)), ("valid", ("--model", "model.pth")), ("predict", PREDICT),
             ("publish_model", ("model.pth", "o.pth")))  # fmt: skip
    for key in ("state_dict", "config", "skeleton", "extra"):
        for number, value in enumerate(values):

            def replace(folder: Path, key: str = key, value: Any = value) -> None:
                content = torch.load(folder / "model.pth", weights_only=True)
                torch.save(content | {key: value}, folder / "model.pth")

            tool, words = calls[number % len(calls)]
            yield Case(f"model {key} {number}, {tool}", tool, words, replace)
    for number in range(24):

        def flip(folder: Path, number: int = number) -> None:
            content = bytearray((folder / "model.pth").read_bytes())
            content[number * len(content) // 24 + 5] ^= 1 << number % 8
            (folder / "model.pth").write_bytes(content)

        tool, words = calls[number % len(calls)]
        yield Case(f"model with bit {number}, {tool}", tool, words, flip)


def settings() -> Iterator[Case]:
    """Values of a recipe."""
    keys = ("DATASET.ROOT", "DATASET.TRAIN", "DATASET.TRAIN_IMAGES", "DATASET.SKELETON",
            "DATASET.INPUT_SIZE", "DATASET.DATASET", "MODEL.NAME", "OUTPUT_DIR", "WORKERS", "SEED",
            "LIMITS.IMAGE_MB")  # fmt: skip
    for key in keys:
        for number, value in enumerate(ODD):
            if key == "DATASET.SKELETON" and "outside" in str(value):
                continue  # a recipe may name a skeleton anywhere

            def prepare(folder: Path, key: str = key, value: Any = value) -> None:
                line = json.dumps({key: value}).replace("NaN", ".nan")
                (folder / "odd.yaml").write_text(line)

            tool = ("check_data", "dist_train", "valid")[number % 3]
            words = ("--cfg", "odd.yaml", "DATASET.TEST", "none")
            yield Case(f"setting {key} {number}, {tool}", tool, words, prepare)


def command_lines() -> Iterator[Case]:
    """Words of command lines."""
    odd = ("-1", "1e400", "nan", "9" * 400, "", "\x1b[2J", "/dev/zero", "[1", "'", "--", "=",
           "--x=--", "TRAIN.LR", "TRAIN.LR=[[[[[[", "\udcff", "x" * 5000)  # fmt: skip
    calls = (
        ("dist_train", CFG), ("valid", CFG), ("check_data", CFG), ("browse_data", CFG),
        ("dist_train", (*CFG, "--gpus")), ("dist_train", (*CFG, "--name")), ("report", ()),
        ("predict", PREDICT), ("predict", (*PREDICT, "--threshold")), ("runs", ()),
        ("valid", ("--compare", "run")), ("valid", ("--results",)), ("valid", ("--model",)),
        ("browse_data", (*BROWSE, "--ids")), ("browse_data", (*BROWSE, "--epoch")),
        ("report", (*REPORT, "--labels")), ("report", (*REPORT, "--title")),
        ("report", (*REPORT, "--skeleton")),
        ("oracle", (*ORACLE, "--seed")), ("oracle", (*ORACLE, "--noise")), ("study", ("status",)),
        ("publish_model", ("model.pth",)), ("prepare_crowdpose", ()), ("prepare_mpii", ()),
    )  # fmt: skip
    for tool, words in calls:
        for word in odd:
            shown = f"{word[:12]!r} {len(word)}"
            yield Case(f"{tool} {' '.join(words[-1:])} {shown}", tool, (*words, word))


def streams() -> Iterator[Case]:
    """Standard streams that are closed, full, or have lost their reader."""
    calls = (("check_data", CFG), ("valid", SCORE), ("runs", ("run",)), ("predict", PREDICT),
             ("valid", ("--model", "nowhere.pth")),
             ("dist_train", ("--print-config", *CFG)))  # fmt: skip
    kinds = {"no input": Streams(stdin="closed"), "no output": Streams(stdout="closed"),
             "no errors": Streams(stderr="closed"), "head -1": Streams(stdout="no reader"),
             "errors | head -1": Streams(stderr="no reader"),
             "full disk": Streams(stdout="/dev/full")}  # fmt: skip
    for tool, words in calls:
        for kind, given in kinds.items():
            yield Case(f"{kind}, {tool} {words[0]}", tool, words, streams=given)
