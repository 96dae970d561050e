defmodule RunRecorder do
  @moduledoc """
  Records background jobs in run-recorder.

      RunRecorder.run("nightly", fn run ->
        RunRecorder.Run.progress(run, 3, 10, "pages")
      end)

  Every function may be called from any process, returns at once (but `flush/1` and `close/1`, which wait) and never raises,
  whatever it is given and wherever the daemon is. Where the application `:run_recorder` has not been started, all are no-ops.

  For Oban see `RunRecorder.Oban`, for CouncilEx `RunRecorder.CouncilEx`.
  """

  alias RunRecorder.{Client, Run}

  @doc """
  Records `work` as a run: its start, and how it ended. Returns what the work returns; what it raises, throws or exits with
  comes out as it was. `name` is what is being run, the run's council.

  `work` takes the run (`RunRecorder.Run`), or nothing. What it returns becomes the run's `result`, unless
  `RunRecorder.Run.put_result/2` has set one; `{:error, reason}` is a value like any other.

  Options: `:run_id` (else a UUID), `:input`, `:attempt`, `:parent` (the run id of the attempt before, or of the first),
  `:queue`, `:job_id`, `:expires_in`, and every other field of the protocol's `run_started`.

  | the work | the run |
  |---|---|
  | returned | completed |
  | raised, threw, exited | failed, with the exception, `throw` or `exit` as kind |
  | exited with `:shutdown` or `{:shutdown, _}`, also from outside | cancelled |
  | its process was killed, or ended with something else that it was linked to | stuck (`run_lost`) |
  """
  @spec run(String.t() | module, keyword | map, (... -> result)) :: result when result: var
  def run(name, options \\ [], work) do
    run = Run.begin(name, options)

    try do
      if is_function(work, 0), do: work.(), else: work.(run)
    catch
      kind, reason ->
        stacktrace = __STACKTRACE__
        Run.failed(run, kind, reason, stacktrace)
        :erlang.raise(kind, reason, stacktrace)
    else
      result ->
        Run.completed(run, result)
        result
    end
  end

  @doc """
  Sends any event of the protocol. `run_id` is a text, or a `RunRecorder.Run`; `fields` a map or keyword list.

      RunRecorder.event("r1", "run_queued", council: "nightly", queue: "default", job_id: 7)
  """
  @spec event(String.t() | Run.t(), atom | String.t(), map | keyword) :: :ok
  def event(run_id, type, fields \\ %{})
  def event(%Run{id: id}, type, fields), do: event(id, type, fields)
  def event(run_id, type, fields), do: Client.emit(run_id, type, fields)

  @doc "Waits until everything so far is acknowledged or refused, at most `timeout` milliseconds, and says whether it is."
  @spec flush(non_neg_integer) :: boolean
  def flush(timeout \\ 2_000), do: Client.flush(timeout)

  @doc """
  What became of all events: `emitted` = `acknowledged` + `refused` + `dropped` + `kept` + `waiting`. `dropped` found no room,
  `kept` are in a file; `truncated` were sent without their large or refused values.
  """
  @spec stats() :: %{atom => non_neg_integer}
  def stats, do: Client.stats()

  @doc """
  Ends the client: waits for what is not acknowledged, at most `timeout` milliseconds (`flush_timeout`), and writes the rest to
  a file that is sent by the next. From then on events are dropped, which `stats/0` counts and the log says once, until the
  application is started again.

  The end of the application, of a script and of the node by `System.stop/1` or SIGTERM does this too.
  """
  @spec close(non_neg_integer | nil) :: :ok
  def close(timeout \\ nil), do: Client.close(timeout)
end
