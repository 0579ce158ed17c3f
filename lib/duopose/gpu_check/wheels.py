"""Wheels that travel with the tree, for a machine without network that lacks some packages.

`fetch` downloads them where there is a network; `add_missing` unpacks those that are needed, on the
machine itself, into a folder of its own. It needs neither pip nor any package.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from duopose.errors import UserError

# Packages that a machine with torch, NumPy, OpenCV and SciPy may lack: name -> module.
MODULES = {
    "yacs": "yacs",
    "PyYAML": "yaml",
    "pycocotools": "pycocotools",
    "hotcoco": "hotcoco",
    "orjson": "orjson",
    "msgspec": "msgspec",
    "tensorboardX": "tensorboardX",
    "protobuf": "google.protobuf",
    "packaging": "packaging",
    "tqdm": "tqdm",
}
PYTHON = "3.12"  # of the machine with the GPU
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
MAX_BYTES = 40 * 2**20  # of all wheels, so that they and the tree stay below 64 MiB


def locked_versions(lock: Path) -> dict[str, str]:
    """Version of each package of MODULES in requirements.lock."""
    found = re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    versions = {_normal(name): version for name, version in found}
    missing = [name for name in MODULES if _normal(name) not in versions]
    if missing:
        raise UserError(
            f"{lock} has no version of {', '.join(missing)}; make it with tools/lock.sh"
        )
    return {name: versions[_normal(name)] for name in MODULES}


def fetch(lock: Path, folder: Path) -> int:
    """Download the wheels into `folder`, for PYTHON on Linux x86-64; their total size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()

    packages = [f"{name}=={version}" for name, version in locked_versions(lock).items()]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    only_wheels = ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *only_wheels]
    command += ["--python-version", PYTHON, *platforms, "--dest", str(folder), *packages]
    if subprocess.run(command, check=False).returncode:
        raise UserError("pip could not download the wheels; its message is above")

    total = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    if total > MAX_BYTES:
        raise UserError(f"the wheels in {folder} have {total:,} bytes, more than {MAX_BYTES:,}")
    return total


def add_missing(folder: Path, target: Path) -> list[str]:
    """Unpack the wheels of packages that cannot be imported; the names of these packages.

    folder: with the wheels; may be absent. target: where they are unpacked; this process and its
    children find them there.
    """
    missing = [name for name, module in MODULES.items() if not _can_import(module)]
    wheels = {_normal(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    absent = [name for name in missing if _normal(name) not in wheels]
    if absent:
        raise UserError(
            f"these packages are missing: {', '.join(absent)}; install them (requirements.txt), or "
            "run `make gpu-check-bundle` on a machine with network and copy the tree with "
            f"{folder} from there"
        )
    if not missing:
        return []

    for name in missing:
        _unpack(wheels[_normal(name)], target)
    sys.path.insert(0, str(target))
    paths = [str(target), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    importlib.invalidate_caches()
    return missing


def _unpack(wheel: Path, target: Path) -> None:
    """Unzip a wheel: it holds the packages as they lie in site-packages."""
    own_tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    python_tag, abi_tag = wheel.stem.split("-")[-3:-1]
    is_for_any = python_tag.startswith("py") or abi_tag == "abi3"
    if not is_for_any and own_tag not in python_tag.split("."):
        raise UserError(f"{wheel} is not for this Python ({own_tag}); set PYTHON in {__file__}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)


def _can_import(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _normal(name: str) -> str:
    """The name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()
