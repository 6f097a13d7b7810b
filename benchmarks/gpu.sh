#!/usr/bin/env bash
# What has to run on a machine with a GPU, in four parts, under four minutes together on an H100 or H200:
#
#   kernels   their tests on the real compiler
#   step      the recorded training step and sampler: tests, then timed beside the plain loop
#   sampling  the samplers and the fused operations, timed
#   audit     auditkit audit --class 2: verdict, seconds, peak memory
#
#   bash benchmarks/gpu.sh [--device cuda] [--again] [PART ...]     all parts unless some are named
#   bash benchmarks/gpu.sh --wheels                                 what has to be carried there, NAME==VERSION
#
# Each part has a limit of its own, and one that fails or runs over costs the others nothing. PART.log and PART.json are left in
# $OUT (gpu-out here); --again leaves out the parts that passed. Exit 1 if a part failed. Without a GPU it is a rehearsal with small
# sizes, unless --device cuda insists.
#
# It was rehearsed with Python 3.12, torch 2.11.0 and triton 3.6.0. Where these are there with numpy, scipy, scikit-learn, torchvision,
# timm, huggingface_hub, safetensors, matplotlib, pytest and pytest-xdist and nothing can be fetched, carry the wheels below (12 MB, for
# Python 3.12 on x86-64 Linux) and name their folder, or one into which they were installed, in SITE:
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_17_x86_64 -d wheels $(bash benchmarks/gpu.sh --wheels)
#   SITE=wheels bash benchmarks/gpu.sh --device cuda
set -uo pipefail

WHEELS="annotated-types==0.8.0 diffusers==0.42.1 ftfy==6.3.1 importlib_metadata==10.2.0 lazy-importer==0.1.0 open_clip_torch==3.3.0
 pydantic==2.14.4 pydantic_core==2.50.5 torch_fidelity==0.4.0 typer==0.29.2 typing-inspection==0.4.5 wcwidth==0.9.4"
PARTS="kernels step sampling audit"
declare -A LIMIT=([kernels]=60 [step]=40 [sampling]=50 [audit]=85) # seconds, 235 together; twenty times as long in a rehearsal

again="" wanted="" part="" device=""
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) printf '%s\n' $WHEELS; exit 0 ;;
    --again) again=1 ;;
    --device) device=${2:-}; shift ;;
    --part) part=${2:-}; shift ;; # one part in this process, for this script itself
    kernels | step | sampling | audit) wanted="$wanted $1" ;;
    *) echo "gpu.sh takes --device cuda, --again, --wheels and the parts $PARTS; got $1" >&2; exit 2 ;;
  esac
  shift
done

export OUT=${OUT:-$PWD/gpu-out} PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE
python=${PYTHON:-python3}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
SITE=${SITE:+$(cd "$SITE" && pwd)} || { echo "SITE names no folder" >&2; exit 2; }
cd "$(dirname "$0")/.." || exit 2

tests() { # no plug-ins but xdist, whatever is installed there; a warning that only a GPU gives is shown and fails nothing
  PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$python" -m pytest -p xdist.plugin -p no:cacheprovider -W default --device "$DEVICE" "$@"
}
bench() { # WHAT SIZE REPEATS: the JSON counts as failed where something was wrong or an arm did not run
  "$python" -m auditkit bench "$1" --size "$2" --repeats "$3" --out "$SCRATCH/$1-$2.json" && "$python" - "$SCRATCH/$1-$2.json" <<'PY'
import json, sys
def wrong(found):
    if isinstance(found, dict):
        yield from (found[k] for k in ("wrong", "failed") if found.get(k))
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from wrong(inner)
said = list(wrong(json.load(open(sys.argv[1]))))
sys.exit("\n".join(said) if said else 0)
PY
}
every() { # runs what follows even if it failed before, and remembers
  "$@" || failed=1
}

run_kernels() { # ahead-of-time compilation is tested without a GPU
  every tests tests/kernels --ignore tests/kernels/test_aot.py -n "$JOBS"
}
run_step() {
  every tests tests/auditkit/test_captured.py -n 0
  for size in $SIZES; do AUDITKIT_CAPTURE=1 every bench step "$size" "$REPEATS"; done
}
run_sampling() {
  for size in $SIZES; do AUDITKIT_CAPTURE=1 every bench sampling "$size" "$REPEATS"; done
  every bench kernels digits "$REPEATS"
}
run_audit() {
  local small=()
  [ "$DEVICE" = cpu ] && for setting in unlearn.steps=20 relearn.steps=10 relearn.n=20 relearn.lrs=5e-4 finetune.steps=10 finetune.n=20 \
    evaluate.n=50 evaluate.retain_n=10; do small+=(--set "$setting"); done
  AUDITKIT_RUNS="$SCRATCH/runs" every "$python" benchmarks/peak.py "$SCRATCH/audit.json" audit --class 2 "${small[@]}"
}

if [ -n "$part" ]; then
  failed=0
  "run_$part"
  exit $failed
fi

export SCRATCH DEVICE JOBS SIZES REPEATS
SCRATCH=$(mktemp -d) && trap 'rm -rf "$SCRATCH"' EXIT || exit 2
if [ -n "$SITE" ] && compgen -G "$SITE/*.whl" > /dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$SCRATCH/site" "$SITE"/*.whl || exit 2
  SITE=$SCRATCH/site
fi
export PYTHONPATH=$PWD:$PWD/kernels:$PWD/attacks:$PWD/evaluators${SITE:+:$SITE}${PYTHONPATH:+:$PYTHONPATH}

DEVICE=$("$python" - <<'PY'
import platform, sys, torch, triton
gpu = torch.cuda.is_available()
about = f"{torch.cuda.get_device_name()}, capability {torch.cuda.get_device_capability()}" if gpu else "no GPU: rehearsal on the CPU"
print(f"Python {platform.python_version()}, torch {torch.__version__}, triton {triton.__version__}, {about}", file=sys.stderr)
import diffusers, open_clip, pydantic, torch_fidelity, typer  # before anything is spent
print("cuda" if gpu else "cpu")
PY
) || { echo "something is missing here: see --wheels and SITE" >&2; exit 2; }
if [ "$device" = cuda ] && [ "$DEVICE" != cuda ]; then
  echo "--device cuda: torch sees no GPU here" >&2
  exit 2
fi
cores=$(nproc)
if [ "$DEVICE" = cuda ]; then
  JOBS=$((cores < 5 ? cores : 5)) SIZES="digits cifar10" REPEATS=5 slower=1
else
  JOBS=2 SIZES=digits REPEATS=1 slower=20
fi

table="" bad=0
for name in $PARTS; do
  case " ${wanted:-$PARTS} " in *" $name "*) ;; *) continue ;; esac
  if [ -n "$again" ] && grep -qs '"passed": true' "$OUT/$name.json"; then
    table+=$(printf '%-10s %-14s' "$name" "passed before")$'\n'
    continue
  fi
  override=LIMIT_$name
  limit=${!override:-$((${LIMIT[$name]} * slower))}
  echo "$name: at most $limit s"
  rm -f "$OUT/$name.json" "$SCRATCH"/*.json
  began=$SECONDS
  timeout -k 5 "$limit" bash benchmarks/gpu.sh --part "$name" > "$OUT/$name.log" 2>&1
  code=$? seconds=$((SECONDS - began))
  case $code in 0) said=passed ;; 124 | 137) said="over $limit s" ;; *) said="failed" ;; esac
  [ $code = 0 ] || { bad=1; tail -n 15 "$OUT/$name.log"; }
  "$python" - "$OUT/$name.json" "$name" "$said" "$seconds" "$SCRATCH"/*.json <<'PY'
import json, pathlib, sys
out, part, said, seconds, *files = sys.argv[1:]
results = {pathlib.Path(f).stem: json.loads(pathlib.Path(f).read_text()) for f in files if pathlib.Path(f).exists()}
about = {"part": part, "passed": said == "passed", "said": said, "seconds": int(seconds), "results": results}
pathlib.Path(out).write_text(json.dumps(about, indent=1) + "\n")
PY
  table+=$(printf '%-10s %-14s %4d s' "$name" "$said" "$seconds")$'\n'
done
printf '\n%s' "$table"
exit $bad
