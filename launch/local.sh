#!/usr/bin/env bash
# Train with several processes on this machine, over loopback: the code path of a cluster, without one.
#
#   launch/local.sh PROCESSES --config FILE [any flag of python -m scoresde.train]
#
# Runs on the CPU unless JAX_PLATFORMS says otherwise. One process already drives all accelerators of a machine, so for
# those use the plain command. PYTHON names the interpreter (default: python).
#
# SIGTERM, Ctrl-C, SIGHUP and SIGUSR1 stop every process. Exit code: 0 if all processes say 0; 75 if any says 75 (saved, run it again);
# else that of the process which failed first. When one has ended with an error, the rest get GRACE seconds to end too.
set -euo pipefail

GRACE=60

usage() {
  echo "usage: launch/local.sh PROCESSES --config FILE [...]" >&2
  exit 2
}

[[ "${1:-}" =~ ^[1-9][0-9]*$ ]] || usage
processes=$1
shift
[[ $# -gt 0 ]] || usage

python=${PYTHON:-python}
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

running=()
signal_all() {
  local pid
  for pid in ${running[@]+"${running[@]}"}; do # the form that bash 4.3 and older accept for an empty array
    kill -s "$1" "$pid" 2>/dev/null || true
  done
}
trap 'signal_all TERM' TERM INT HUP USR1
trap 'signal_all KILL' EXIT # whatever ends this script leaves no process behind

for ((rank = 0; rank < processes; rank++)); do
  "$python" -m scoresde.train "$@" --distributed "127.0.0.1:$port,$processes,$rank" &
  running+=("$!")
done

code=0 deadline=
while [[ ${#running[@]} -gt 0 ]]; do
  left=()
  for pid in "${running[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      left+=("$pid")
      continue
    fi
    status=0
    wait "$pid" || status=$?
    if [[ $status -ne 0 ]]; then
      deadline=${deadline:-$((SECONDS + GRACE))}
      [[ $code -ne 0 && $status -ne 75 ]] || code=$status
    fi
  done
  running=(${left[@]+"${left[@]}"})
  if [[ -n $deadline && $SECONDS -ge $deadline ]]; then
    signal_all KILL
  fi
  sleep 0.2
done
exit "$code"
