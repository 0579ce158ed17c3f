"""What is asked of malloc is granted, and costs no memory by itself; in a child process, because the effect is on the whole process."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = [
    pytest.mark.skipif(
        platform.libc_ver()[0] != "glibc", reason="only glibc's malloc takes the wishes"
    ),
    pytest.mark.skipif(
        not HUGE_PAGES.is_file(), reason="this system has no transparent huge pages"
    ),
]

CHILD = """
import json, resource
from pathlib import Path
import torch
from duopose.training.memory import keep_freed_memory, use_huge_pages

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def faults_of_a_large_block():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept, before = keep_freed_memory(), resident()
marked = use_huge_pages(most=2_100_000_000)
grown = resident() - before
flags = [line for line in Path("/proc/self/smaps").read_text().splitlines() if line.startswith("VmFlags")]
faults_of_a_large_block()
advised = any(" hg" in line for line in flags)
print(json.dumps({"kept": kept, "marked": marked, "grown": grown, "advised": advised, "faults": faults_of_a_large_block()}))
"""


def test_freed_memory_is_kept_in_pages_marked_as_huge() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["kept"] and found["advised"]
    assert 1_900_000_000 < found["marked"] < 2_100_000_000
    assert found["grown"] < 50_000_000  # address space, not memory
    assert found["faults"] < 1000  # 40 MB anew would be 10,000 pages
