# Tests that need a real daemon find its two programs in the folder RUN_RECORDER_BIN; those with real Oban its sources in
# RUN_RECORDER_OBAN_SOURCES (test/support/oban_sources.exs) and a PostgreSQL that they may start.
for file <- ~w(daemon oban_sources postgres), do: Code.require_file("support/#{file}.exs", __DIR__)

skip = fn tag, there?, why ->
  unless there?, do: IO.puts("skipped: what needs #{why}")
  if there?, do: [], else: [tag]
end

daemon? = RunRecorder.TestDaemon.available?()
oban? = daemon? and RunRecorder.ObanSources.folder() != nil and RunRecorder.TestPostgres.available?()

exclude =
  skip.(:real_daemon, daemon?, "a daemon (RUN_RECORDER_BIN names no folder with run-recorderd)") ++
    skip.(:oban, oban?, "Oban (RUN_RECORDER_OBAN_SOURCES names no folder, or there is no PostgreSQL or no daemon)")

ExUnit.start(exclude: exclude, capture_log: true)
