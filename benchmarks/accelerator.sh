#!/usr/bin/env bash
# Everything here that needs an accelerator, in pieces of at most nine minutes that go on from each other.
#
#   benchmarks/accelerator.sh              the next pieces that are not done, as long as MINUTES last
#   benchmarks/accelerator.sh PIECE ...    these, in this order
#   benchmarks/accelerator.sh --list       all of them, and which are done
#
#   PYTHON    with this package and, for the comparisons, torch and diffusers; default python3
#   CIFAR10   cifar10.npz: x_train, y_train, x_test, y_test; default cifar10.npz
#   INCEPTION the 2015 Inception for FID, see docs/evaluation.md; default fid_inception_2015.npz
#   OUT       logs, JSON, grids; default accelerator      RUNS  run folders with checkpoints, large; default runs
#   MINUTES   of one call, default 9: nothing is begun later, and what runs is told to save and stop
#   LONG      steps of the runs of Song et al.'s recipes, default 20000 of 1.3 M; to go on with more, remove their .done
#
# A piece that ends by itself leaves OUT/PIECE.done and is not run again. One that is stopped goes on in the next call.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} CIFAR10=${CIFAR10:-cifar10.npz} INCEPTION=${INCEPTION:-fid_inception_2015.npz}
OUT=${OUT:-accelerator} RUNS=${RUNS:-runs} MINUTES=${MINUTES:-9} LONG=${LONG:-20000}
PIECES="train_step fast_rate fast fast_grid fast_bpd fast_fid ncsnpp_ve ddpmpp_subvp grids sample mnist rest"
began=$SECONDS
mkdir -p "$OUT" "$RUNS"

left() { echo $((MINUTES * 60 - (SECONDS - began))); }  # seconds

# The piece's command as far as the time lasts. SIGTERM makes training save and leave with 75; the comparisons know --minutes.
run() {
  timeout --signal=TERM --kill-after=60 "$(left)" "$@"
}

train() {  # CONFIG WORKDIR FLAGS...
  local config=$1 workdir=$2
  shift 2
  run "$PYTHON" -m scoresde.train --config "configs/$config.py" --workdir "$RUNS/$workdir" --config.data.source="npz:$CIFAR10" "$@"
}

# The number of steps that 18 minutes hold, from the last rate of fast_rate.
fast_steps() {
  "$PYTHON" - "$RUNS/fast_rate/metrics.jsonl" <<'PYTHON'
import json, sys
rates = [line["steps_per_second"] for line in map(json.loads, open(sys.argv[1])) if "steps_per_second" in line]
print(int(1080 * rates[-1]) // 50 * 50)
PYTHON
}

piece() {
  case $1 in
    # Against PyTorch in the same run; both keep what is measured and go on.
    train_step) run "$PYTHON" benchmarks/train_step.py --python "$PYTHON" --minutes "$(($(left) / 60))" ;;
    sample) run "$PYTHON" benchmarks/sample.py --python "$PYTHON" --minutes "$(($(left) / 60))" ;;
    # The recipe of twenty minutes: its rate, the run, a grid, bits/dim of all test images, FID of 50,000 samples.
    fast_rate) train cifar10_fast fast_rate --config.training.steps=1000 --config.training.watch="()" --config.sampling.num=4 ;;
    fast) train cifar10_fast fast --config.training.steps="$(fast_steps)" ;;
    fast_grid) run "$PYTHON" -m scoresde.sample --workdir "$RUNS/fast" --num 100 --out "$OUT/fast_grid" ;;
    fast_bpd) run "$PYTHON" -m scoresde.evaluate --workdir "$RUNS/fast" --metrics bpd --out "$OUT/fast_bpd" ;;
    fast_fid) run "$PYTHON" -m scoresde.evaluate --workdir "$RUNS/fast" --metrics fid,kid,prdc,is --network "$INCEPTION" --out "$OUT/fast_fid" ;;
    # As long as the time allows.
    ncsnpp_ve) train cifar10_ncsnpp_ve ncsnpp_ve --config.model.dtype=bfloat16 --config.training.steps="$LONG" ;;
    ddpmpp_subvp) train cifar10_ddpmpp_subvp ddpmpp_subvp --config.model.dtype=bfloat16 --config.training.steps="$LONG" ;;
    grids)
      for trained in ncsnpp_ve ddpmpp_subvp; do
        if [ -d "$RUNS/$trained" ]; then
          run "$PYTHON" -m scoresde.sample --workdir "$RUNS/$trained" --num 64 --sampler dpmpp --steps 25 --out "$OUT/$trained" || return $?
        fi
      done ;;
    mnist) run "$PYTHON" -m scoresde.train --config configs/mnist_vp.py --workdir "$RUNS/mnist" --config.data.source="npz:${MNIST:-mnist.npz}" \
      --config.training.steps=20000 --config.training.batch_size=256 --config.evaluate.num=-1 ;;
    # Smaller ones of benchmarks/README.md.
    rest) run "$PYTHON" benchmarks/sampler_speed.py && run "$PYTHON" benchmarks/transforms.py && run "$PYTHON" benchmarks/data_throughput.py --npz "$CIFAR10" ;;
    *) echo "no piece $1; there are: $PIECES" >&2; return 2 ;;
  esac
}

keep() {  # what is small of the results
  cp -f benchmarks/results/{train_step,sample,sampler_speed,transforms,data_throughput}.json "$OUT" 2>/dev/null
  for workdir in "$RUNS"/*/; do
    local name
    name=$(basename "$workdir")
    [ -f "$workdir/metrics.jsonl" ] && cp -f "$workdir/metrics.jsonl" "$OUT/$name.metrics.jsonl"
    local newest
    newest=$(ls "$workdir"/samples/*.png 2>/dev/null | tail -n 1)
    [ -n "$newest" ] && cp -f "$newest" "$OUT/$name.png"
  done
}

if [ "${1:-}" = --list ]; then
  for name in $PIECES; do [ -f "$OUT/$name.done" ] && echo "$name  done" || echo "$name"; done
  exit 0
fi
status=0
for name in ${*:-$PIECES}; do
  [ -f "$OUT/$name.done" ] && continue
  [ "$(left)" -lt 60 ] && break
  start=$SECONDS
  piece "$name" >>"$OUT/$name.log" 2>&1
  code=$?
  echo "$name: exit $code after $((SECONDS - start)) s, $OUT/$name.log"
  [ $code -eq 0 ] && touch "$OUT/$name.done"
  case $code in
    0 | 75 | 124 | 137) ;;          # done, or saved, or out of time
    *) tail -n 5 "$OUT/$name.log" >&2; status=$code; [ "$code" -eq 2 ] && break ;;
  esac
done
keep
exit $status
