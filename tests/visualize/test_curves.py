"""metrics.csv becomes curves."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from duopose.errors import UserError
from duopose.visualize.curves import plot_curves, read_curves, smooth

HEADER = "step,epoch,kind,name,value\n"


def write(folder: Path, steps: int = 40) -> Path:
    lines = [HEADER]
    for step in range(1, steps + 1):
        loss = {
            "loss": 3 / step,
            "heatmap_4": 2 / step,
            "push": 1 / step,
            "learning_rate": 1e-3,
            "data_share": 0.1,
        }
        lines += [f"{step},{step / 10},train,{name},{value}\n" for name, value in loss.items()]
        if step % 10 == 0:
            lines += [f"{step},{step / 10},val,AP,{step / 100}\n"]
    path = folder / "metrics.csv"
    path.write_text("".join(lines))
    return path


def test_reading(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "41,4.1,train,lo")  # a killed run's last line
    curves = read_curves(path)
    assert curves["val", "AP"].epochs == [1, 2, 3, 4] and curves["val", "AP"].values == [
        0.1,
        0.2,
        0.3,
        0.4,
    ]
    assert len(curves["train", "push"].values) == 40


def test_plot_is_an_image_with_lines(tmp_path: Path) -> None:
    target = tmp_path / "new" / "curves.png"
    plot_curves(write(tmp_path), target, "a run")
    image = cv2.imread(str(target))
    assert image is not None
    assert image.shape[1] > 1500 and image.shape[0] > 400  # three panels
    assert (np.ptp(image.astype(int), axis=2) > 60).sum() > 500  # coloured ink
    assert [entry.name for entry in target.parent.iterdir()] == ["curves.png"]


def test_smoothing() -> None:
    values = np.sin(np.linspace(0, 3, 1000)) + np.random.default_rng(0).normal(0, 0.3, 1000)
    assert np.array_equal(smooth(values[:40]), values[:40])
    smoothed = smooth(values)
    assert len(smoothed) == 1000
    assert np.isclose(smoothed[500], values[490:511].mean())
    values[500] = np.nan
    assert np.isfinite(smooth(values)).all()


def test_every_loss_term_is_drawn_and_strides_share_a_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curves draw every term of the file, also new ones."""
    path = tmp_path / "metrics.csv"
    values = {"loss": 3, "new_term_4": 2, "new_term_2": 1, "push": 1, "learning_rate": 0.1}
    speed = {"images_per_second": 9, "data_share": 0.1, "loss_scale": 2, "skipped_steps": 1}
    rows = [
        f"{step},{step},train,{name},{value}"
        for step in (1, 2)
        for name, value in (values | speed).items()
    ]
    path.write_text(HEADER + "\n".join([*rows, "2,2,val,AP,0.5", "2,2,val,AR,0.6"]))

    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    plot_curves(path, tmp_path / "curves.png")
    lines = [{line.get_label(): line for line in axes.get_lines()} for axes in figures[0].axes]
    assert [set(panel) for panel in lines] == [
        {"loss", "new_term_4", "new_term_2", "push"},
        {"AP", "AR"},
        {"learning_rate"},
    ]
    four, two, push = (lines[0][name] for name in ("new_term_4", "new_term_2", "push"))
    assert four.get_color() == two.get_color() != push.get_color()
    assert four.get_linestyle() != two.get_linestyle()


@pytest.mark.parametrize("text", [None, "epoch,loss\n1,2\n", HEADER])
def test_what_cannot_be_plotted(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "metrics.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(path))):
        plot_curves(path, tmp_path / "curves.png")
