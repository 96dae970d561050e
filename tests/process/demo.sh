#!/usr/bin/env bash
# What ./dev demo runs: real jobs, real processes, embedded SQLite in a temporary folder. Each step shows its command, and
# checks that what happened is what should have. Nothing is left running.
#
# usage: demo.sh FOLDER   (the folder with run-recorderd and run-recorder)
set -euo pipefail

bin=$(cd "${1:?usage: demo.sh FOLDER_WITH_THE_PROGRAMS}" && pwd)
folder=$(mktemp -d -t run-recorder-demo.XXXXXX)
daemon=''
worker=''
began=$SECONDS
PATH=$bin:$PATH
export RUN_RECORDER_DATABASE_URL=sqlite:$folder/run-recorder.db
export RUN_RECORDER_SOCKET_PATH=$folder/events.sock
export RUN_RECORDER_CONTROL_PATH=$folder/control.sock
export RUN_RECORDER_SPOOL_PATH=$folder/spool
export RUN_RECORDER_SPOOL_MIN_FREE=1MiB
# A fresh row is left alone for 30 s otherwise, which is long for a demonstration.
export RUN_RECORDER_RECONCILE_GRACE=1s

clean_up() {
  local process
  for process in $worker $daemon; do
    kill -9 "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  [ ! -s "$folder/command.pid" ] || kill -9 "$(cat "$folder/command.pid")" 2>/dev/null || true
  rm -rf "$folder"
}
trap clean_up EXIT

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\033[1m' plain=$'\033[0m'
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
fail() {
  printf 'demo: %s\n' "$*" >&2
  [ ! -e "$folder/log" ] || tail -n 40 "$folder/log" >&2
  exit 1
}
# run COMMAND...: shows the command, then runs it.
run() {
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[[:alnum:]_./:=-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  printf '$%s\n' "$line"
  "$@"
}
# job NAME: the script ./NAME, from standard input.
job() {
  { printf '#!/bin/sh\n' && cat; } >"$1"
  chmod +x "$1"
}
# wait_until SECONDS WHAT COMMAND...: until the command succeeds.
wait_until() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "waited in vain for $what"
    sleep 0.05
  done
}

# runs_of COUNCIL FIELD: that field of its runs, oldest first.
runs_of() {
  run-recorder list --council "$1" --json | python3 -c '
import json, sys
print(*reversed([json.loads(line)[sys.argv[1]] for line in sys.stdin if line.strip()]))' "$2"
}
expect() {
  local found
  found=$(runs_of "$1" status)
  [ "$found" = "$2" ] || fail "$1 should be recorded as '$2', but is '$found'"
}

start_daemon() {
  printf '$ run-recorderd &\n'
  run-recorderd >>"$folder/log" 2>&1 &
  daemon=$!
  wait_until 20 "the daemon" run-recorder status
}

cd "$folder"
job backup <<<'echo "42 files saved"'
job import-orders <<<'echo "orders.csv: no such file" >&2; exit 3'
job send-invoices <<<'[ -e sent-before ] || { touch sent-before; echo "mail server away" >&2; exit 1; }'
# shellcheck disable=SC2016  # the job's own shell expands it
job resize-images <<<'echo $$ >command.pid; exec sleep 1000'

step "A daemon starts, with embedded SQLite in $folder."
start_daemon
run run-recorder status

step "A job that succeeds. Any command can be recorded, from cron or a timer too."
run run-recorder exec --council nightly-backup -- ./backup
expect nightly-backup completed

step "A job that fails: its exit status passes through, its last words are kept."
status=0
run run-recorder exec --council import-orders -- ./import-orders || status=$?
[ "$status" = 3 ] || fail "the command's exit status should be 3, not $status"
expect import-orders failed

step "A job that is retried: each attempt is a row, and the rows are a chain."
run run-recorder exec --council send-invoices --retries 2 -- ./send-invoices
expect send-invoices "failed completed"
run run-recorder chain "$(runs_of send-invoices run_id | cut -d' ' -f1)"

step "A job that is cancelled, told by a worker in its own words."
run run-recorder emit --type run_started --run-id report-2026-03 --council monthly-report
run run-recorder emit --type run_failed --run-id report-2026-03 --errors '[{"kind":"cancelled","message":"not needed any more"}]'
expect monthly-report cancelled

step "A job that dies unseen: it runs, the daemon is stopped, and both the job and its wrapper are killed with -9."
printf '$ run-recorder exec --council resize-images -- ./resize-images &\n'
run-recorder exec --council resize-images -- ./resize-images &
worker=$!
wait_until 20 "the job to run" test -s command.pid
running() { [ "$(runs_of resize-images status)" = running ]; }
wait_until 20 "the job to be recorded as running" running
run kill "$daemon"
wait "$daemon" || fail "the daemon should exit with 0"
daemon=''
run kill -9 "$worker" "$(cat command.pid)"
wait "$worker" 2>/dev/null || true
worker=''
rm -f command.pid

step "The daemon comes back, and looks who is still alive."
seen=$(wc -l <"$folder/log")
start_daemon
stuck() { [ "$(runs_of resize-images status)" = stuck ]; }
wait_until 30 "the run to be found stuck" stuck
report() { tail -n "+$((seen + 1))" "$folder/log" | grep -iE 'stuck|reconcil|pass'; }
wait_until 10 "the report in the log" report
report

step "All runs:"
run run-recorder list

step "The one that died, and the evidence:"
lost=$(runs_of resize-images run_id)
run run-recorder show "$lost"
run run-recorder events "$lost"

run kill "$daemon"
wait "$daemon" || fail "the daemon should exit with 0"
daemon=''
step "That was the demo: $((SECONDS - began)) s, nothing is left running."
