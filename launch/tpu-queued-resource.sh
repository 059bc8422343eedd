#!/usr/bin/env bash
# Train on a Spot TPU slice, asked for as a queued resource, on all its workers; asked for anew after each preemption.
#
#   PROJECT=p ZONE=z BUCKET=b launch/tpu-queued-resource.sh NAME --config FILE [any flag of python -m scoresde.train]
#
# Needs gcloud, logged in, and this checkout (its committed state is copied to the workers). The run folder is
# runs/NAME on the bucket, so every new slice continues it. Use a bucket with hierarchical namespace, in which folders
# are renamed atomically. Exit code: that of the training; the slice is deleted when it is 0 to 6, and on Ctrl-C.
set -euo pipefail

if [[ $# -lt 2 ]]; then
  echo "usage: PROJECT=p ZONE=z BUCKET=b launch/tpu-queued-resource.sh NAME --config FILE [...]" >&2
  exit 2
fi
: "${PROJECT:?}" "${ZONE:?}" "${BUCKET:?}"
type=${TYPE:-v5litepod-16}
runtime=${RUNTIME:-v2-alpha-tpuv5-lite}
name=$1
shift
here=(--project "$PROJECT" --zone "$ZONE")

queue() { gcloud compute tpus queued-resources "$1" "$name" "${here[@]}" "${@:2}"; }
state() { queue describe --format='value(state.state)' 2>/dev/null || true; }
everywhere() { gcloud compute tpus tpu-vm ssh "$name" "${here[@]}" --worker=all --command "$1"; }

package=$(mktemp -d)
finish() {
  rm -rf "$package"
  queue delete --force --quiet || true
}
trap finish EXIT
trap 'exit 130' INT TERM

git -C "$(dirname "$0")/.." archive --format=tar.gz -o "$package/scoresde.tar.gz" HEAD

# Python 3.11 or later, the package, the bucket at ~/bucket. Change it to what your runtime image has.
# shellcheck disable=SC2016 # expanded on the workers
setup='set -e
command -v python3.11 >/dev/null || { sudo apt-get -qq update; sudo apt-get -qq install -y python3.11-venv; }
mkdir -p ~/scoresde ~/bucket
tar xzf ~/scoresde.tar.gz -C ~/scoresde
test -x ~/venv/bin/python || python3.11 -m venv ~/venv
~/venv/bin/pip install --quiet -e ~/scoresde[tpu]
mountpoint -q ~/bucket || gcsfuse --implicit-dirs '"$(printf %q "$BUCKET")"' ~/bucket'

# A process that outlived its connection would still hold the run folder.
stop='pkill -TERM -f "[s]coresde[.]train" || exit 0
for _ in $(seq 120); do pgrep -f "[s]coresde[.]train" >/dev/null || exit 0; sleep 1; done'

train="cd ~/scoresde && ~/venv/bin/python -m scoresde.train$(printf ' %q' "$@")"
train+=" --workdir ~/bucket/runs/$(printf %q "$name") --distributed auto"

while true; do
  case $(state) in
    ACTIVE) ;;
    "")
      queue create --node-id "$name" --accelerator-type "$type" --runtime-version "$runtime" --spot
      continue
      ;;
    ACCEPTED | CREATING | PROVISIONING | WAITING_FOR_RESOURCES)
      sleep 30
      continue
      ;;
    *) # SUSPENDED after a preemption, FAILED
      queue delete --force --quiet || sleep 30
      continue
      ;;
  esac
  code=0
  {
    gcloud compute tpus tpu-vm scp "$package/scoresde.tar.gz" "$name:" "${here[@]}" --worker=all &&
      everywhere "$setup" && everywhere "$stop"
  } || code=255
  if [[ $code -eq 0 ]]; then
    everywhere "$train" || code=$?
    if [[ $code -le 6 && ($code -ne 1 || $(state) == ACTIVE) ]]; then # 1 may be the loss of a worker
      exit "$code"
    fi
  fi
  echo "ended with $code; looking at the slice again" >&2
  sleep 30
done
