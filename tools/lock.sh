#!/usr/bin/env bash
# Write requirements.lock from requirements.txt, with uv (https://docs.astral.sh/uv, `pip install uv`).
# torch is left out, its needs are named: its checksum depends on the build for the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
head -n 2 requirements.lock > build.lock
{
    grep -v '^torch==' requirements.txt
    printf '%s\n' filelock typing-extensions sympy networkx jinja2 fsspec
} | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - >> build.lock
mv build.lock requirements.lock
