#!/usr/bin/env bash
# Proves the GPU kernels on a machine with a GPU, in the environment of $PYTHON (python3), which has torch.
#
#   tools/gpu_check.sh DIR [--only parity|sanitizer|attention|prefill|kernels|prefill_long]
#
# Builds pcbench for that torch and runs the parts in this order, each at most ten minutes with its build:
#   parity        every op over its odd cases against the float64 reference; three runs equal bit for bit; Triton's
#   sanitizer     compute-sanitizer over the small cases of every op, where it works
#   attention     the suite `kernels`: attention, our own and by libraries, against SDPA's cuDNN and flash kernels
#   prefill       the suite `prefill`: random:llama-3-8b, bf16, 8K and 32K, the timed workload alone
#   kernels       the suite `kernels`, whole
#   prefill_long  the suite `prefill` at 128K, the timed workload alone
# Where all parts run, the first four take at most 15 minutes: what can be seen of a machine that is lent for so long.
# DIR gets gpu_check_PART.txt (the summary, with the figures of reports/GPU_PENDING.md) and gpu_check_PART.tar.gz (every
# log and run). Exit code: 0 when nothing failed; a figure that is not met is said, and fails nothing. Without git,
# PCBENCH_COMMIT and PCBENCH_DIRTY say which sources these are, and PCBENCH_SOURCES, which must be their hash, proves it.
# PCBENCH_PART_SECONDS: another limit of each part.
set -uo pipefail

# in their order; the seconds of each where all run, and of one that is asked for, which leave time to pack
parts=(parity sanitizer attention prefill kernels prefill_long)
limits=(290 150 90 360 560 560)
alone=560

name=all
if [ "${2:-}" = --only ]; then
    name=${3:-}
fi
case " all ${parts[*]} " in
*" $name "*) ;;
*) name= ;;
esac
if [ -z "${1:-}" ] || [ -z "$name" ]; then
    echo "usage: tools/gpu_check.sh DIR [--only $(IFS='|' && echo "${parts[*]}")]" >&2
    exit 2
fi

if [ "$name" = all ]; then
    status=0
    for i in "${!parts[@]}"; do
        PCBENCH_PART_SECONDS=${PCBENCH_PART_SECONDS:-${limits[i]}} "$0" "$1" --only "${parts[i]}" || status=1
    done
    exit $status
fi

mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3}
work=$(mktemp -d)
trap pack EXIT
results=$work/gpu_check_$name
summary=$folder/gpu_check_$name.txt
mkdir -p "$results"
: >"$summary"
failed=0

# whatever ends the part, its logs are kept
pack() {
    cp "$summary" "$results/"
    tar -czf "$folder/gpu_check_$name.tar.gz" -C "$work" "gpu_check_$name"
    rm -rf "$work"
}

say() { echo "$*" | tee -a "$summary"; }

# within LOG COMMAND...: runs a command within the part's time, its output at the end of a log; 124: it was stopped
within() {
    local log=$1 status
    shift
    timeout -k 10 $((deadline > SECONDS ? deadline - SECONDS : 1)) "$@" >>"$log" 2>&1
    status=$?
    # it had to be killed
    [ $status = 137 ] && [ $SECONDS -gt $deadline ] && status=124
    [ $status != 124 ] || echo "stopped: the time of this part is over" >>"$log"
    return $status
}

# step LOG COMMAND...: runs a command within the part's time, its output in a log; says how it went
step() {
    local log=$results/$1.log status seconds=$SECONDS
    shift
    echo "$*" >"$log"
    within "$log" "$@"
    status=$?
    [ $status = 0 ] || failed=1
    say "$([ $status = 0 ] && echo ok || echo "FAILED ($status)") in $((SECONDS - seconds)) s: $(basename "$log" .log)"
    tail -n "$lines" "$log" | sed 's/^/    /' | tee -a "$summary"
    return $status
}

parity() {
    lines=40 step check "$python" -m pcbench check --device "$device"
    lines=5 step tests "$python" -m pytest -q -p no:cacheprovider tests/ops/test_determinism.py tests/ops/test_parity.py \
        tests/ops/test_tracing.py tests/ops/test_graphs.py tests/ops/providers -k "cuda"
    # compiled when first called, each in a second or two
    lines=3 step triton "$python" tests/triton_parity.py bfloat16 cuda
}

# reads what nobody wrote; a filter of names that matches no kernel would not see it
UNWRITTEN="
import torch
from pcbench import ops

ops.merge_states(torch.empty(2, 1, 1, 1, 64, device='cuda'), torch.empty(2, 1, 1, 1, device='cuda'))
torch.cuda.synchronize()
"

sanitizer() {
    local tool sanitizer watched status
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -n 1)
    if [ -z "$sanitizer" ]; then
        say "not run: no compute-sanitizer on this machine"
        return
    fi
    # a driver or sandbox that it cannot attach to fails this
    within "$results/attach.log" "$sanitizer" "$python" -c "import torch; torch.ones(9, device='cuda').sum().item()"
    status=$?
    if [ $status != 0 ]; then
        [ $status != 124 ] || failed=1
        say "not run: compute-sanitizer does not work here"
        tail -n 3 "$results/attach.log" | sed 's/^/    /' | tee -a "$summary"
        return
    fi
    # every tensor in an allocation of its own, or nobody sees what lies beyond it
    watched=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --error-exitcode 9 --kernel-name kernel_substring=pcbench)
    within "$results/planted.log" "${watched[@]}" --tool initcheck "$python" -c "$UNWRITTEN"
    if [ $? != 9 ]; then
        failed=1
        say "FAILED: compute-sanitizer did not see a planted fault in a kernel of ours"
        tail -n 3 "$results/planted.log" | sed 's/^/    /' | tee -a "$summary"
        return
    fi
    say "ok: compute-sanitizer saw the planted fault in a kernel of ours"
    for tool in memcheck racecheck synccheck; do
        lines=4 step "$tool" "${watched[@]}" --tool "$tool" "$python" tools/small_calls.py
    done
}

# suite NAME OPTION...; what was measured until the time is over is still read: the figures of `ops`, or all
suite() {
    deadline=$((deadline - 30)) lines=12 step "$name" "$python" -m pcbench run --suite "$1" --device "$device" \
        --out "$results/$name" "${@:2}"
    lines=60 step figures "$python" tools/gpu_figures.py "$results/$name" "${ops[@]}"
}
ops=()
attention() {
    ops=(calibrated_attention cached_attention)
    suite kernels --method calibrated_attention --method cached_attention --set suite.reference_up_to_gflop=0 \
        --set 'kernel.calibrated_attention.baselines=["sdpa-cudnn","sdpa-flash","by-cudnn","by-flash","floor-no-mass"]' \
        --set 'kernel.cached_attention.baselines=["sdpa-cudnn","sdpa-flash"]'
}
kernels() { suite kernels; }
# random weights have no score, so untimed passes would tell nothing
prefill() {
    suite prefill --set 'suite.context_tokens=[8192,32768]' --set 'suite.workloads=["passkey"]' --set suite.warmup_up_to=4
    say "128K is a part of its own: --only prefill_long"
}
prefill_long() {
    suite prefill --set 'suite.context_tokens=[131072]' --set 'suite.workloads=["passkey"]' --set suite.warmup_up_to=4
}

# fails where the GPU's kernels cannot run, and says why
READY="
import torch
from pcbench import ops
from pcbench.measure.machine.environment import commit, sources_sha256

print(*(f'{name} {value}' for name, value in commit().items()), f'sources {sources_sha256()}', sep=', ')
ops.backend('hip' if torch.version.hip else 'cuda')
"

deadline=$((SECONDS + ${PCBENCH_PART_SECONDS:-$alone}))
say "gpu_check, $(date -u +%FT%TZ)"
lines=3 step build "$python" -m pip install -q --no-deps --no-build-isolation -e .
device=$("$python" -c "import torch; print('rocm' if torch.version.hip else 'cuda')")
lines=30 step doctor "$python" -m pcbench doctor
lines=3 step ready "$python" -c "$READY"
if [ $failed = 0 ]; then
    "$name"
fi
say "$([ $failed = 0 ] && echo "nothing failed" || echo "something failed: see the logs in the archive")"
exit $failed
