#!/usr/bin/env bash
# Runs once, as root, while the container's image is built: Python, PyTorch's CPU build, what attn needs.
set -euo pipefail
root="${ATTN_AUTOGRADER:-/autograder}"
source="$root/source"
export DEBIAN_FRONTEND=noninteractive

# What the grader can do without (the fence, say) must not stop the build: the grader says when it is missing.
apt-get update || true
apt-get install -y --no-install-recommends python3 python3-venv ca-certificates
for package in @SYSTEM@; do
    apt-get install -y --no-install-recommends "$package" || echo "not installed: $package" >&2
done

# uv finds or fetches this Python, whatever the image has, and knows PyTorch's CPU build, which is
# gigabytes smaller than the one for GPUs.
python3 -m venv "$root/tools"
"$root/tools/bin/pip" install --quiet uv
uv="$root/tools/bin/uv"
"$uv" venv --allow-existing --python 3.12 "$root/venv"
install() {
    "$uv" pip install --python "$root/venv/bin/python" -c "$source/requirements.pinned" -r "$source/requirements.txt" "$@"
}
install --torch-backend cpu || install

"$root/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
