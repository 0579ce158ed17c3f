"""docs/quickstart.ipynb runs, offline, in a fresh process.

The cells are executed by `exec`. nbclient would start an IPython kernel behind sockets and bring
28 packages (100 MB) for five cells of plain Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from duopose.config import config_text, load_config
from duopose.network import build_network, save_model
from duopose.network.model_file import DEFAULT_MODEL_PATTERN
from duopose.skeletons import get_skeleton, skeleton_to_dict

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOK = PROJECT / "docs" / "quickstart.ipynb"
SKELETON = PROJECT / "docs" / "examples" / "lsp_skeleton.yaml"
TINY = (
    "MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1, "MODEL.STEM_CHANNELS", 8,
    "MODEL.DECONV_BLOCKS", 1, "MODEL.HEAD_BLOCKS", 1, "MODEL.INIT_WEIGHTS", False,
    "DATASET.INPUT_SIZE", 64, "TEST.DETECTION_THRESHOLD", 0.05, "TEST.PERSON_THRESHOLD", 0.0,
    "TEST.MAX_PEOPLE", 4, "DATASET.SKELETON", str(SKELETON),
)  # fmt: skip

# Runs the cells in one namespace, without a network, and prints what they made.
RUNNER = """
import json, sys
import torch

def refuse_connections(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"the notebook uses the network: {arguments}")

sys.addaudithook(refuse_connections)
torch.set_num_threads(1)
names = {"__name__": "__main__"}
cells = json.load(open(sys.argv[1]))["cells"]
code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
for number, source in enumerate(code):
    exec(compile(source, f"cell {number}", "exec"), names)
made = {
    "names": list(names["people"].names),
    "shapes": [list(one.keypoints.shape) for one in names["found"]],
    "results": [entry["image_id"] for entry in names["results"]],
    "metrics": dict(names["metrics"].values),
    "axes": sum(len(axis.images) for axis in names["figure"].axes),
}
print(json.dumps(made))
"""


def run_notebook(folder: Path, model: Path | None) -> dict[str, Any]:
    """What the notebook made with the model, or with the one in models/."""
    environment = {key: value for key, value in os.environ.items() if key != "DUOPOSE_MODEL"}
    environment |= {"MPLBACKEND": "Agg", "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(PROJECT / "lib")
    if model is not None:
        environment["DUOPOSE_MODEL"] = str(model)

    command = [sys.executable, "-c", RUNNER, str(NOTEBOOK)]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def check(made: dict[str, Any]) -> None:
    """Eight images are found, drawn and scored."""
    counts = [shape[0] for shape in made["shapes"]]
    assert len(counts) == made["axes"] == 8
    assert len(made["results"]) == sum(counts)
    assert len(set(made["results"])) == sum(count > 0 for count in counts)
    assert {"AP", "AP50", "AR"} <= set(made["metrics"])
    assert all(shape[1:] == [len(made["names"]), 3] for shape in made["shapes"])


def test_runs_with_a_named_model(tmp_path: Path) -> None:
    skeleton = get_skeleton(str(SKELETON))
    cfg = load_config(None, [*TINY])
    torch.manual_seed(5)
    state = build_network(cfg, skeleton).state_dict()
    model = tmp_path / "tiny.pth"
    save_model(model, state, config_text(cfg), skeleton_to_dict(skeleton))

    made = run_notebook(tmp_path, model)

    check(made)
    assert made["names"] == list(skeleton.keypoints)
    assert sum(shape[0] for shape in made["shapes"]) > 0  # maps of random weights have peaks
    assert made["metrics"]["AP"] < 0.05


def test_runs_with_the_model_of_the_repository(tmp_path: Path) -> None:
    if not list((PROJECT / "models").glob(DEFAULT_MODEL_PATTERN)):
        pytest.skip(f"models/ has no {DEFAULT_MODEL_PATTERN}")
    check(run_notebook(tmp_path, None))


def test_holds_no_outputs() -> None:
    content = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert content["nbformat"] == 4
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert [cell["execution_count"] for cell in code] == [None] * len(code)
