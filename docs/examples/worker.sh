#!/bin/sh
# A worker in shell that records one run and sends each event again until it is acknowledged. Needs socat.
#
# usage: worker.sh [RUN_ID]     prints the run's id; exits 1 where an event is refused for good
#
# Every event has an id, so that sending it again changes nothing. socat is a process of its own and ends with each
# event: without worker_pid nobody would vouch for the run. Where the daemon cannot see this process, in a container of
# another host, expires_in takes its place: every event renews it, and run_heartbeat does where there is none to send for
# so long. Heartbeats belong into the work's own loop: a process beside it would vouch for work that hangs.
set -eu

socket=${RUN_RECORDER_SOCKET_PATH:-/run/run-recorder/events.sock}
run_id=${1:-$(cat /proc/sys/kernel/random/uuid)}
events=0
ended=

# Sends a line and tells what became of it: 0 settled, 1 to be sent again. Refused for good: exits 1.
# socat waits at most 10 s for the answer once all is sent.
deliver() {
  answer=$(printf '%s\n' "$1" | socat -t10 - "UNIX-CONNECT:$socket" 2>/dev/null) || answer=
  case $answer in
    *'"code":"spool_full"'* | *'"code":"unavailable"'*) return 1 ;;
    *'"error"'*)
      printf 'worker.sh: refused: %s\n' "$answer" >&2
      ended=1
      exit 1
      ;;
    *'"acked":1'*) return 0 ;;
  esac
  return 1
}

next_line() {
  events=$((events + 1))
  line=$(printf '{"run_id":"%s","id":"%s-%d","worker_pid":%d,%s}' "$run_id" "$run_id" "$events" $$ "$1")
}

# send FIELDS: one event, given as the JSON members behind type, run_id, id and worker_pid. The next one is sent only
# after this one is settled, which keeps their order over several connections.
send() {
  next_line "$1"
  pause=1
  until deliver "$line"; do
    sleep $pause
    [ $pause -ge 5 ] || pause=$((pause + 1))
  done
}

# A script that ends without an outcome says so, once and without waiting for a daemon that is away.
lost() {
  [ -z "$ended" ] || return 0
  ended=1
  next_line '"type":"run_lost","message":"worker.sh ended without an outcome"'
  deliver "$line" || :
}
trap lost EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

send '"type":"run_started","council":"example-sh","input":{"rows":3},"expires_in":300'
for row in 1 2 3; do
  send "\"type\":\"row_done\",\"payload\":{\"row\":$row},\"progress\":{\"done\":$row,\"total\":3,\"unit\":\"rows\"}"
done
send '"type":"run_completed","result":{"rows":3}'
ended=1
printf '%s\n' "$run_id"
