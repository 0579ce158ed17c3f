"""Duopose: bottom-up multi-person 2D pose estimation by Double Embedding.

    import duopose
    model = duopose.load("model_best.pth")
    people = model("street.jpg")

torch is imported on the first use of `load`, `Model` or `People`, so that `import duopose` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duopose.inference.model import Model, People, load

__version__ = "0.1.0"
__all__ = ["Model", "People", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load`, `Model` and `People`, imported when they are first used."""
    if name in ("load", "Model", "People"):
        from duopose.inference import model

        return getattr(model, name)
    raise AttributeError(f"module 'duopose' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
