#!/usr/bin/env bash
# What takes a GPU, in one command, with a short table at its end; what it leaves is under $OUT, results/gpu by default.
#
#   benchmarks/gpu.sh                              are the GPU's figures right, and what does a step cost
#   benchmarks/gpu.sh MODEL TEXT [SECOND_TEXT]     and a suite of MODEL on TEXT, its audits, its report
#
# PARTS="parity cost suite study" chooses some of it, PYTHON the interpreter that has progloc's dependencies and pytest.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=$(realpath -m "${OUT:-results/gpu}")
PARTS=${PARTS:-parity cost${1:+ suite study}}
PYTHON=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
export PYTHONPATH=$PWD/src PYTHONUNBUFFERED=1
mkdir -p "$OUT"
progloc() { "$PYTHON" -m progloc "$@"; }
"$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  { echo "no CUDA device was found by $PYTHON; expected one that torch can use" >&2; exit 2; }

parity() { # kernels, models, the dial and every figure against the definition in double precision
  OMP_NUM_THREADS=1 "$PYTHON" -m pytest -p no:cacheprovider -n "${JOBS:-8}" tests/parity/test_cuda.py \
    tests/parity/test_triton_segments.py tests/unit/test_cross_entropy.py tests/unit/test_stock.py
}
cost() { # a training step and an evaluation beside plain attention, interleaved
  "$PYTHON" benchmarks/step_cost.py --lengths "${LENGTHS:-128x32,1024,4096}" --repeats "${REPEATS:-10}" --out "$OUT/cost"
}
suite() { # locality by schedule, the sink left alone
  progloc reproduce --suite "${SUITE:-benchmarks/suites/faithfulness-pretrained.yaml}" --model "$1" --corpus "$2" \
    ${3:+--second-corpus "$3"} --out "$OUT/suite"
}
study() { # do localised layers show what an answer rested on
  progloc audit "$OUT/suite" --study "$2" --texts "${TEXTS:-200}" --jobs "${JOBS:-8}"
}

rows=()
for part in $PARTS; do
  started=$SECONDS
  if "$part" "$@" 2>&1 | tee "$OUT/$part.log"; then ended=done; else ended=FAILED; fi
  rows+=("$(printf '%-8s %-8s %5d s  %s' "$part" "$ended" $((SECONDS - started)) "$(tail -n 1 "$OUT/$part.log" | cut -c 1-100)")")
done
"$PYTHON" -c 'import torch, transformers; print(torch.cuda.get_device_name(), "· torch", torch.__version__, "· transformers", transformers.__version__)'
printf '%s\n' "${rows[@]}" | tee "$OUT/summary.txt"
! grep -q FAILED "$OUT/summary.txt"
