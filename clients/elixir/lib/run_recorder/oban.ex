defmodule RunRecorder.Oban do
  @moduledoc """
  Records Oban's jobs, each execution as a run. Once, when the application starts:

      RunRecorder.Oban.attach()

  It listens to Oban's telemetry and changes nothing about Oban or its jobs. What a job becomes is told by Oban:

  | the job | the run | `job_state` |
  |---|---|---|
  | `:ok`, `{:ok, value}` | completed, `result` is the value | completed |
  | `{:snooze, seconds}` | completed, `result` is `{"snoozed": seconds}` | scheduled |
  | `{:error, reason}`, raised, exited, threw, timed out, crashed | failed | retryable, after the last attempt discarded |
  | `{:cancel, reason}`, or cancelled while it executed | cancelled | cancelled |
  | `:discard`, `{:discard, reason}` | failed, kind `discard` | discarded |
  | its process ended and Oban told nothing: its producer crashed, its queue was stopped | stuck (`run_lost`) | |
  | its node was killed | stuck, found by the daemon, which knows the node by `worker_pid` | |

  Inside of a job:

      def perform(%Oban.Job{} = job) do
        job |> RunRecorder.Oban.run() |> RunRecorder.Run.progress(3, 10, "pages")

  ## Run ids

  `run_id/1` derives the id from a job, wherever that is at hand. Attempt numbers come back after a snooze (from Oban 2.24), so
  an execution is known by its number among the job's executions, which are the attempts and the snoozes that `meta` counts,
  and by the time of its claim; the first by the time when the job was inserted. Later ones have the first as
  `parent_attempt_run_id`, so that `run-recorder chain` shows them together. The run's `attempt` is Oban's number. Who replaces
  the `meta` of a job that was put off takes the count away (`Oban.update_job/2`): with `attempt` 1 the next execution has the
  first's id then, and is not seen.

  ## Options of `attach/1`

  - `:council`: what is being run, a function of the job. The worker's name by default.
  - `:input`: a function of the job, or `false` for none. Its `args` by default.
  - `:result`: a function of what `perform/1` returned and the job, or `false` for none. The value of `{:ok, value}` by
    default, and nothing for `:ok`.
  - `:ignore`: a function of the job, or a list of workers, whose jobs are not recorded.
  - `:snooze`: `:completed` (the default), or `:cancelled` where an execution that puts its job off is to be seen as that.
  - `:queue`: the daemon's name of this Oban's queue, where several are configured (`[queues.NAME]`): a text, or a function of
    the job. It is not the queue inside of Oban.

  An option's function that raises is as if it were not given, and for `:input` and `:result` the place says so.
  """

  alias RunRecorder.{Client, Encoder, Run, Text, Watch}

  # Telemetry comes with Oban, and is looked for where it is needed.
  @compile {:no_warn_undefined, :telemetry}

  @handler "run-recorder-oban"
  @events [[:oban, :job, :start], [:oban, :job, :stop], [:oban, :job, :exception], [:oban, :queue, :shutdown]]
  @epoch ~U[1970-01-01 00:00:00.000000Z]

  @doc "Begins to record. Called again it replaces the options."
  @spec attach(keyword) :: :ok | {:error, term}
  def attach(options \\ []) do
    if Code.ensure_loaded?(:telemetry) do
      :telemetry.detach(@handler)
      :telemetry.attach_many(@handler, @events, &__MODULE__.handle_event/4, Map.new(options))
    else
      {:error, :telemetry_is_not_available}
    end
  rescue
    exception -> {:error, exception}
  catch
    :exit, _reason -> {:error, :telemetry_is_not_started}
  end

  @doc "Ends what `attach/1` began."
  @spec detach() :: :ok | {:error, term}
  def detach do
    :telemetry.detach(@handler)
  rescue
    exception -> {:error, exception}
  end

  @doc "The run of a job's current execution, or of its latest."
  @spec run_id(struct) :: String.t()
  def run_id(job),
    do: if(first?(job), do: first_run_id(job), else: "#{name(job)}-#{number(job)}-#{time(job.attempted_at)}")

  @doc "The run of a job's first execution, which is the parent of the others."
  @spec first_run_id(struct) :: String.t()
  def first_run_id(%{id: nil} = job), do: "#{name(job)}-#{time(job.attempted_at)}"
  def first_run_id(job), do: "#{name(job)}-#{time(job.inserted_at)}"

  @doc "The run of a job that is executing, for `RunRecorder.Run`'s functions."
  @spec run(struct) :: Run.t()
  def run(job) do
    id = run_id(job)
    %Run{id: id, row: row(id)}
  rescue
    _no_job -> %Run{id: nil}
  end

  # With `testing: :inline` a job has no id.
  defp name(%{id: nil} = job), do: "oban-inline-#{:erlang.phash2({job.worker, job.args, job.queue})}"
  defp name(job), do: "oban-#{job.id}"

  defp first?(job), do: number(job) <= 1

  # The number of the current or latest execution, the same when the job is claimed and after it was put off: to Oban 2.23 a
  # snooze leaves the attempt's number; later it takes one from that, and adds one to its own count.
  defp number(job), do: job.attempt + snoozed(job.meta)

  defp snoozed(%{"snoozed" => count}) when is_integer(count), do: count
  defp snoozed(_meta), do: 0

  defp time(%DateTime{} = time), do: DateTime.diff(time, @epoch, :microsecond)
  defp time(%NaiveDateTime{} = time), do: time |> DateTime.from_naive!("Etc/UTC") |> time()
  defp time(_none), do: 0

  @doc false
  # Called by telemetry, in the job's process or in that of Oban which saw it end. One that raised would be detached for good.
  def handle_event(event, _measurements, metadata, options) do
    handle(event, metadata, options)
    :ok
  rescue
    _whatever -> :ok
  catch
    _kind, _reason -> :ok
  end

  defp handle([:oban, :queue, :shutdown], %{orphaned: orphaned} = metadata, _options) do
    for {row, run_id} <- Watch.jobs(instance(metadata), orphaned), Watch.finish(row) do
      Client.emit(run_id, "run_lost", %{message: "its queue was stopped before it ended"})
    end
  end

  defp handle([:oban, :job, what], %{job: job} = metadata, options) do
    unless ignored?(job, options) do
      if what == :start, do: started(job, metadata, options), else: ended(what, job, metadata, options)
    end
  end

  defp started(job, metadata, options) do
    run_id = run_id(job)
    Process.put({__MODULE__, run_id}, Watch.begin(run_id, {:job, instance(metadata), job.id}))

    fields = %{
      council: council(job, options),
      attempt: job.attempt,
      oban_job_id: job.id,
      queue: queue(job, options),
      parent_attempt_run_id: if(first?(job), do: nil, else: first_run_id(job))
    }

    Client.emit(run_id, "run_started", with_input(fields, job, options))
  end

  defp ended(what, job, metadata, options) do
    run_id = run_id(job)
    row = row(run_id)
    {type, fields} = outcome(what, metadata[:state], metadata, options)
    Client.emit(run_id, type, with_result_of_run(type, fields, row))
    Watch.finish(row)
    Process.delete({__MODULE__, run_id})
  end

  # Also where another process than the job's tells the end.
  defp row(run_id), do: Process.get({__MODULE__, run_id}) || List.first(Watch.rows(run_id))

  defp instance(%{conf: %{name: name}}), do: name
  defp instance(_metadata), do: nil

  ## Outcomes

  defp outcome(:stop, :snoozed, %{result: result}, options), do: put_off(seconds(result), options)
  defp outcome(:stop, :cancelled, %{result: result}, _options), do: failed("cancelled", reason(result), "cancelled")
  defp outcome(:stop, :discard, %{result: result}, _options), do: failed("discard", reason(result), "discarded")

  defp outcome(:stop, _success, metadata, options) do
    {"run_completed", with_result(%{job_state: "completed"}, metadata[:result], metadata.job, options)}
  end

  defp outcome(:exception, state, metadata, _options) do
    error = Run.error(:error, metadata[:reason], metadata[:stacktrace] || [])
    error = if metadata[:stacktrace] in [nil, []], do: Map.delete(error, :stacktrace), else: error
    job_state = if state in [:discard, :exhausted], do: "discarded", else: "retryable"
    {"run_failed", %{errors: [with_kind(error, metadata[:reason], metadata[:kind])], job_state: job_state}}
  end

  # What was no exception is wrapped into one of Oban's, or is the reason that the process ended with.
  defp with_kind(error, %{__struct__: Oban.CrashError, message: "** (exit)" <> _}, _kind), do: %{error | kind: "exit"}
  defp with_kind(error, %{__struct__: Oban.CrashError, message: "** (throw)" <> _}, _kind), do: %{error | kind: "throw"}
  defp with_kind(error, %{__exception__: true}, _kind), do: error

  defp with_kind(error, reason, kind) do
    %{error | kind: kind || "error", message: Encoder.readable(fn -> Text.exit_reason(reason) end)}
  end

  defp put_off(seconds, %{snooze: :cancelled}),
    do: failed("cancelled", "snoozed for #{Text.of(seconds)} s", "scheduled")

  defp put_off(seconds, _options), do: {"run_completed", %{result: %{snoozed: seconds}, job_state: "scheduled"}}

  defp failed(kind, message, job_state) do
    {"run_failed", %{errors: [%{kind: kind, message: message}], job_state: job_state}}
  end

  defp reason({_word, reason}) when is_binary(reason), do: reason
  defp reason({_word, reason}), do: Encoder.readable(fn -> Text.inspected(reason) end)
  defp reason(word), do: Encoder.readable(fn -> Text.inspected(word) end)

  # A month is Oban's, of 30 days.
  @seconds %{second: 1, minute: 60, hour: 3_600, day: 86_400, week: 604_800, month: 2_592_000}
  @units for {unit, seconds} <- @seconds, name <- [unit, :"#{unit}s"], into: %{}, do: {name, seconds}

  defp seconds({:snooze, {count, unit}}) when is_map_key(@units, unit), do: count * Map.fetch!(@units, unit)
  # Seconds, or what a later version may bring.
  defp seconds({:snooze, period}), do: period
  defp seconds(result), do: result

  ## Options

  defp ignored?(job, %{ignore: workers}) when is_list(workers), do: job.worker in Enum.map(workers, &Text.of/1)
  defp ignored?(job, %{ignore: ignore}) when is_function(ignore, 1), do: asked(fn -> ignore.(job) end, false) == true
  defp ignored?(_job, _options), do: false

  defp council(job, %{council: council}) when is_function(council, 1), do: asked(fn -> council.(job) end, job.worker)
  defp council(job, _options), do: job.worker

  defp queue(job, %{queue: queue}) when is_function(queue, 1), do: asked(fn -> queue.(job) end, nil)
  defp queue(_job, options), do: options[:queue]

  defp with_input(fields, _job, %{input: none}) when none in [false, nil], do: fields

  defp with_input(fields, job, %{input: input}) when is_function(input, 1) do
    Map.put(fields, :input, Encoder.readable(fn -> input.(job) end))
  end

  defp with_input(fields, job, _options), do: Map.put(fields, :input, job.args)

  defp with_result(fields, _returned, _job, %{result: none}) when none in [false, nil], do: fields

  defp with_result(fields, returned, job, %{result: result}) when is_function(result, 2) do
    Map.put(fields, :result, Encoder.readable(fn -> result.(returned, job) end))
  end

  defp with_result(fields, :ok, _job, _options), do: fields
  defp with_result(fields, {:ok, value}, _job, _options), do: Map.put(fields, :result, value)
  defp with_result(fields, other, _job, _options), do: Map.put(fields, :result, other)

  # What the job has set with RunRecorder.Run.put_result/2.
  defp with_result_of_run("run_completed", fields, row) do
    case Watch.result(row) do
      {:set, result} -> Map.put(fields, :result, result)
      :none -> fields
    end
  end

  defp with_result_of_run(_failed, fields, _row), do: fields

  defp asked(ask, otherwise) do
    ask.()
  rescue
    _exception -> otherwise
  catch
    _kind, _reason -> otherwise
  end
end
