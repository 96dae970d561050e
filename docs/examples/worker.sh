#!/bin/sh
# A worker in shell that records one run and sends each event again until it is acknowledged. Needs socat.
#
# usage: worker.sh [RUN_ID]     prints the run's id; exits 1 where an event is refused for good
#
# Every event has an id, so that sending it again changes nothing. socat is a process of its own and ends with each
# event: without worker_pid nobody would vouch for the run.
set -eu

socket=${RUN_RECORDER_SOCKET_PATH:-/run/run-recorder/events.sock}
run_id=${1:-$(cat /proc/sys/kernel/random/uuid)}
events=0

# send FIELDS: one event, given as the JSON members behind type, run_id, id and worker_pid. The next one is sent only
# after this one is settled, which keeps their order over several connections.
send() {
  events=$((events + 1))
  line=$(printf '{"run_id":"%s","id":"%s-%d","worker_pid":%d,%s}' "$run_id" "$run_id" "$events" $$ "$1")
  pause=1
  while :; do
    # socat waits at most 10 s for the answer once all is sent.
    answer=$(printf '%s\n' "$line" | socat -t10 - "UNIX-CONNECT:$socket" 2>/dev/null) || answer=
    case $answer in
      *'"code":"spool_full"'* | *'"code":"unavailable"'*) ;; # worth sending again
      *'"error"'*)
        printf 'worker.sh: refused: %s\n' "$answer" >&2
        exit 1
        ;;
      *'"acked":1'*) return ;;
    esac
    sleep $pause
    [ $pause -ge 5 ] || pause=$((pause + 1))
  done
}

send '"type":"run_started","council":"example-sh","input":{"rows":3}'
for row in 1 2 3; do
  send "\"type\":\"row_done\",\"payload\":{\"row\":$row}"
done
send '"type":"run_completed","result":{"rows":3}'
printf '%s\n' "$run_id"
