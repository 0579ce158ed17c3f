#!/bin/sh
# Two network namespaces as two hosts train together under torchrun, then the result is compared with one host's.
# Needs root and `ip netns`; exit code 77 (skipped) where these are missing. Usage: tests/two_hosts.sh [PYTHON]
set -eu
PYTHON=${1:-python}
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=$(mktemp -d)
NAMES="duopose-a-$$ duopose-b-$$"
set -- $NAMES
A=$1 B=$2

clean() {
    ip netns del "$A" 2>/dev/null || true
    ip netns del "$B" 2>/dev/null || true
    rm -rf "$OUT"
}
trap clean EXIT

if ! ip netns add "$A" 2>/dev/null; then
    echo "two_hosts: network namespaces need root and the tool 'ip'; skipped"
    exit 77
fi
ip netns add "$B"
ip link add "va$$" netns "$A" type veth peer name "vb$$" netns "$B" || { echo "two_hosts: no veth pairs here; skipped"; exit 77; }
ip -n "$A" addr add 10.77.0.1/24 dev "va$$"
ip -n "$B" addr add 10.77.0.2/24 dev "vb$$"
for host in "$A" "$B"; do ip -n "$host" link set lo up; done
ip -n "$A" link set "va$$" up
ip -n "$B" link set "vb$$" up

# As docs/launch.md says; both "hosts" have one name, so that interface, address and who is the meeting point must be told.
host() {
    name=$1 interface=$2 rank=$3
    OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=$interface ip netns exec "$name" "$PYTHON" -m torch.distributed.run \
        --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id two-hosts --rdzv-endpoint 10.77.0.1:29400 \
        --rdzv-conf "is_host=$((1 - rank))" --local-addr "10.77.0.$((rank + 1))" \
        "$HERE/training/tiny_train.py" --out "$OUT/two" --batch_norm 0 TRAIN.OPTIMIZER sgd TRAIN.LR 0.1
}
host "$A" "va$$" 0 &
FIRST=$!
host "$B" "vb$$" 1 >"$OUT/second.txt" 2>&1 || { cat "$OUT/second.txt"; exit 1; }
wait $FIRST

OMP_NUM_THREADS=1 "$PYTHON" "$HERE/training/tiny_train.py" --out "$OUT/one" --batch_norm 0 TRAIN.OPTIMIZER sgd TRAIN.LR 0.1 TRAIN.IMAGES_PER_GPU 4 >"$OUT/one.txt"
"$PYTHON" - "$OUT" <<'END'
import sys
from pathlib import Path
import torch
two, one = (torch.load(next(Path(sys.argv[1], name).rglob("model_final.pth")), weights_only=True)["state_dict"] for name in ("two", "one"))
worst = max(float((two[name] - one[name]).abs().max()) for name in one)
print(f"two_hosts: largest difference of a weight between two hosts and one: {worst:.2g}")
sys.exit(worst > 1e-6)
END
