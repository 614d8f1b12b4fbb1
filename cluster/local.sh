#!/usr/bin/env bash
# A Ray head and an MLflow server on this machine, on loopback, guarded by a token; then a study.
#
#   cluster/local.sh start                   start both; prints what to export
#   cluster/local.sh submit STUDY [OPTIONS]  cryo-hpo submit: the current folder, STUDY inside it
#   cluster/local.sh stop                    end what `start` began, and nothing else
#
# Variables: CRYO_STORAGE ./runs, CRYO_DATA ./data, CRYO_WEIGHTS ./weights, NUM_CPUS all of them,
# RAY_PORT 6379, DASHBOARD_PORT 8265, RAY_CLIENT_PORT 10001, MLFLOW_PORT 5000.
set -euo pipefail
storage=$(realpath -m "${CRYO_STORAGE:-runs}")
ray_port=${RAY_PORT:-6379} dashboard_port=${DASHBOARD_PORT:-8265} mlflow_port=${MLFLOW_PORT:-5000}
export CRYO_STORAGE=$storage
CRYO_DATA=$(realpath -m "${CRYO_DATA:-data}") CRYO_WEIGHTS=$(realpath -m "${CRYO_WEIGHTS:-weights}")
export CRYO_DATA CRYO_WEIGHTS
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$storage/.ray-token}
# Ray's name for "this node stays 127.0.0.1": else its ports listen on every interface.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
export MLFLOW_TRACKING_URI=http://127.0.0.1:$mlflow_port
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
state=$storage/.local-cluster # process groups, and Ray's scratch folder

token() { # one secret for every node and client; readable by its owner alone
  [ -s "$RAY_AUTH_TOKEN_PATH" ] && return
  (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
}

alive() { # PROCESS GROUP: does anything of it still run? (a zombie does not)
  ps -eo pgid=,stat= | awk -v group="$1" '$1 == group && $2 !~ /^Z/ { found = 1 } END { exit !found }'
}

wait_for() { # GROUP URL LOG
  for _ in $(seq 120); do
    python3 -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)" "$2" 2>/dev/null && return
    alive "$1" || break
    sleep 1
  done
  echo "'$2' does not answer; the end of '$3':" >&2
  tail -n 20 "$3" >&2
  stop
  exit 1
}

start() {
  if [ -e "$state" ]; then
    echo "'$state' says that a cluster runs already: cluster/local.sh stop" >&2
    exit 1
  fi
  mkdir -p "$storage" && token
  scratch=$(mktemp -d /tmp/cryo-ray-XXXXXX) # sockets take short paths only
  echo "$scratch" >"$state"
  setsid ray start --head --block --node-ip-address 127.0.0.1 --port "$ray_port" \
    --dashboard-host 127.0.0.1 --dashboard-port "$dashboard_port" --dashboard-agent-listen-port 0 \
    --ray-client-server-port "${RAY_CLIENT_PORT:-10001}" --temp-dir "$scratch" \
    ${NUM_CPUS:+--num-cpus "$NUM_CPUS"} >"$storage/ray.log" 2>&1 </dev/null &
  ray=$! && echo "$ray" >>"$state"
  setsid mlflow server --host 127.0.0.1 --port "$mlflow_port" --workers 1 \
    --backend-store-uri "sqlite:///$storage/mlflow.db" --artifacts-destination "$storage/mlartifacts" \
    >"$storage/mlflow.log" 2>&1 </dev/null &
  mlflow=$! && echo "$mlflow" >>"$state"
  wait_for "$mlflow" "http://127.0.0.1:$mlflow_port/health" "$storage/mlflow.log"
  wait_for "$ray" "http://127.0.0.1:$dashboard_port/api/gcs_healthz" "$storage/ray.log"
  cat <<END
Ray dashboard http://127.0.0.1:$dashboard_port, MLflow $MLFLOW_TRACKING_URI. For other shells:
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard_port
  export MLFLOW_TRACKING_URI=$MLFLOW_TRACKING_URI
  export CRYO_DATA=$CRYO_DATA CRYO_WEIGHTS=$CRYO_WEIGHTS CRYO_STORAGE=$storage
END
}

stop_jobs() { # and wait for them: their MLflow runs are closed while there is a server
  python3 - "http://127.0.0.1:$dashboard_port/api/jobs/" "$RAY_AUTH_TOKEN_PATH" <<'END'
import json, sys, time, urllib.request

jobs, token = sys.argv[1], open(sys.argv[2]).read().strip()


def ask(url, method="GET"):
    head = {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=head, method=method), timeout=10) as answer:
        return json.load(answer)


def at_work():
    return [j["submission_id"] for j in ask(jobs) if j["submission_id"] and j["status"] in ("PENDING", "RUNNING")]


for job in at_work():
    ask(f"{jobs}{job}/stop", "POST")
end = time.monotonic() + 60
while at_work() and time.monotonic() < end:
    time.sleep(0.5)
END
}

stop() { # by process group: `ray stop` would end every Ray on this machine
  if [ ! -e "$state" ]; then
    echo "'$storage' has no cluster that runs." >&2
    return
  fi
  stop_jobs 2>/dev/null || true # a head that does not answer has none
  {
    read -r scratch
    while read -r group; do
      kill -TERM "$group" 2>/dev/null || true # the leader ends its own in order
      for _ in $(seq 20); do alive "$group" || break; sleep 1; done
      kill -KILL -- "-$group" 2>/dev/null || true
    done
  } <"$state"
  case $scratch in /tmp/cryo-ray-*) rm -rf "$scratch" ;; esac
  rm -f "$state"
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  submit) cryo-hpo submit "${2:?STUDY}" --address "http://127.0.0.1:$dashboard_port" "${@:3}" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
