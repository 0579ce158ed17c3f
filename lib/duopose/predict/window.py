"""A window that shows drawn images as they come.

OpenCV is used without its windows (opencv-python-headless), so matplotlib opens one, where there
is a display.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import matplotlib as mpl
import numpy as np

from duopose.errors import UserError

TITLE = "duopose: close the window, or press q, to end"
INCHES = (10, 7)
BACKGROUND = "0.15"
MIN_PAUSE = 0.001  # seconds in which the window answers the mouse and the keyboard


class Window:
    """Call it with images; UserError where no window can be opened."""

    def __init__(self) -> None:
        if not has_display():
            raise UserError(
                "--show needs a display, and there is none here (DISPLAY and WAYLAND_DISPLAY are "
                "not set); leave --show out: the drawn copies are written to files"
            )
        from matplotlib import pyplot

        figure = pyplot.figure(TITLE, figsize=INCHES, facecolor=BACKGROUND)
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            raise UserError(
                f"--show: matplotlib cannot open windows here (its backend is "
                f"{mpl.get_backend()}); install python3-tk or 'pip install pyqt6', "
                "or leave --show out"
            )
        self._pyplot = pyplot
        self._figure = figure
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._image: mpl.image.AxesImage | None = None

    def __call__(self, image: np.ndarray) -> bool:
        """Show an image (H, W, 3) uint8 RGB; False once the user has closed the window."""
        if not self._pyplot.fignum_exists(self._figure.number):
            return False
        if self._image is None or self._image.get_size() != image.shape[:2]:
            self._axes.clear()
            self._axes.set_axis_off()
            self._image = self._axes.imshow(image)
        else:
            self._image.set_data(image)
        self._pyplot.pause(MIN_PAUSE)
        return bool(self._pyplot.fignum_exists(self._figure.number))

    def wait(self) -> None:
        """Until the user closes the window, or presses Ctrl-C in the terminal."""
        with suppress(KeyboardInterrupt):
            if self._pyplot.fignum_exists(self._figure.number):
                self._pyplot.show()
        self.close()

    def close(self) -> None:
        """Close the window."""
        self._pyplot.close(self._figure)


def has_display() -> bool:
    """Whether windows can be opened: always on Windows and macOS."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
