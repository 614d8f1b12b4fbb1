#!/usr/bin/env bash
# A Ray head and an MLflow server on this machine, on loopback, guarded by a token; then a study.
#
#   cluster/local.sh start                 start both; prints what to export
#   cluster/local.sh submit STUDY          ray job submit
#   cluster/local.sh stop                  end what `start` began, and nothing else
#
# Variables: CRYO_STORAGE (./runs), RAY_PORT 6379, DASHBOARD_PORT 8265, MLFLOW_PORT 5000, NUM_CPUS.
set -euo pipefail
storage=$(realpath -m "${CRYO_STORAGE:-runs}")
ray_port=${RAY_PORT:-6379} dashboard_port=${DASHBOARD_PORT:-8265} mlflow_port=${MLFLOW_PORT:-5000}
export CRYO_STORAGE=$storage
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$storage/.ray-token}
export MLFLOW_TRACKING_URI=${MLFLOW_TRACKING_URI:-http://127.0.0.1:$mlflow_port}
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
pids=$storage/.local-cluster

token() { # one secret for every node and client; readable by its owner alone
  [ -s "$RAY_AUTH_TOKEN_PATH" ] && return
  (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
}

wait_for() { # URL
  for _ in $(seq 120); do
    python3 -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)" "$1" 2>/dev/null && return
    sleep 1
  done
  echo "'$1' did not answer within two minutes; see $storage/*.log" >&2
  exit 1
}

start() {
  mkdir -p "$storage" && token
  setsid mlflow server --host 127.0.0.1 --port "$mlflow_port" --workers 1 \
    --backend-store-uri "sqlite:///$storage/mlflow.db" --artifacts-destination "$storage/mlartifacts" \
    >"$storage/mlflow.log" 2>&1 &
  echo $! >"$pids"
  setsid ray start --head --block --node-ip-address 127.0.0.1 --port "$ray_port" \
    --dashboard-host 127.0.0.1 --dashboard-port "$dashboard_port" ${NUM_CPUS:+--num-cpus "$NUM_CPUS"} \
    >"$storage/ray.log" 2>&1 &
  echo $! >>"$pids"
  wait_for "http://127.0.0.1:$mlflow_port/health"
  wait_for "http://127.0.0.1:$dashboard_port/api/gcs_healthz"
  cat <<END
Ray dashboard http://127.0.0.1:$dashboard_port, MLflow $MLFLOW_TRACKING_URI. For other shells:
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH
  export MLFLOW_TRACKING_URI=$MLFLOW_TRACKING_URI CRYO_STORAGE=$storage
END
}

stop() { # by process group: `ray stop` would end every Ray on this machine
  while read -r pid; do kill -TERM -- "-$pid" 2>/dev/null || true; done <"$pids"
  rm -f "$pids"
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  submit) cryo-hpo submit "${2:?STUDY}" --address "http://127.0.0.1:$dashboard_port" "${@:3}" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
