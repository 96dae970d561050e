#!/bin/sh
# The agent of the shared cases: cases_agent.sh FOLDER starts it, cases_agent.sh FOLDER build only compiles it. What is compiled
# goes into FOLDER, which is used again while it is newer than the sources. Needs nothing but Elixir.
set -eu
out=${1:?usage: cases_agent.sh FOLDER [build]}
here=$(cd "$(dirname "$0")" && pwd)
if [ ! -e "$out/compiled" ] || [ -n "$(find "$here/../lib" -name '*.ex' -newer "$out/compiled")" ]; then
  mkdir -p "$out"
  # The compiler would read the commands.
  find "$here/../lib" -name '*.ex' -exec elixirc --ignore-module-conflict -o "$out" {} + </dev/null >&2
  touch "$out/compiled"
fi
[ "${2:-}" = build ] || exec elixir -pa "$out" "$here/cases_agent.exs"
