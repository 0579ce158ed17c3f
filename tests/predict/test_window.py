"""The window, on matplotlib's drawing without a display."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from duopose.errors import UserError
from duopose.predict import window
from duopose.predict.window import Window

IMAGE = np.zeros((20, 30, 3), np.uint8)


@pytest.fixture(autouse=True)
def without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A display that is named, and a backend that needs none."""
    monkeypatch.setattr(window, "has_display", lambda: True)
    mpl.use("agg")


def test_a_backend_without_windows() -> None:
    with pytest.raises(UserError, match="agg"):
        Window()


def test_images_are_shown_until_the_window_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "headless")
    shown = Window()
    assert shown(IMAGE) and shown(IMAGE + 9)
    assert shown(np.zeros((40, 10, 3), np.uint8))
    shown.close()
    assert not shown(IMAGE)
    shown.wait()
