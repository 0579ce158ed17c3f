"""Tests of the engine share stand-ins for network and data, which are also a script that subprocesses run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
