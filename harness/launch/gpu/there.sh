#!/bin/sh
# On the machine with the GPU, from the repository's root: wheels and data of a call into /tmp, then its stages.
#
# usage: sh harness/launch/gpu/there.sh CALL FOLDER OUT [word ...]
#
# FOLDER: as `python -m harness gpu travel` built it. OUT gets results.json, and all else in one archive, which is renewed while the
# stages run, so that nothing is lost where they are broken off.
set -u
call=$1 folder=$2 out=$3
shift 3
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site "$folder"/wheels/*.whl ||
  exit
mkdir -p /tmp/mirror /tmp/first "$out" && cp -r "$folder"/mirror/. /tmp/mirror/ || exit
export PYTHONPATH=/tmp/site PYTHONUNBUFFERED=1 SPEEDRUN_CACHE=/tmp/cache SPEEDRUN_MIRROR=/tmp/mirror
export TRITON_CACHE_DIR=/tmp/triton TORCHINDUCTOR_CACHE_DIR=/tmp/inductor CUBLAS_WORKSPACE_CONFIG=:4096:8
keep() {
  tar -C /tmp/first --exclude=checkpoints --exclude=weights.safetensors --exclude=shards -czf "$out/.part" . &&
    mv "$out/.part" "$out/call$call.tar.gz"
  cp /tmp/first/results.json "$out/" 2>/dev/null
}
python3 -m harness gpu first call="$call" out=/tmp/first "$@" &
stages=$!
while kill -0 $stages 2>/dev/null; do
  sleep 5
  keep
done
wait $stages
status=$?
keep
exit $status
