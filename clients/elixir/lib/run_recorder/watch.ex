defmodule RunRecorder.Watch do
  # Says of runs whose process ended without saying how that they are lost. Runs that are under way are rows of a table, which
  # their callers write and remove; this process monitors each of their processes once, and is only woken.
  #
  # A row is {{pid, number}, run_id, how, result}: `how` is :run, :council or {:job, instance, job_id}; `result` is
  # what the run's work has set.
  @moduledoc false

  use GenServer

  alias RunRecorder.{Buffer, Client}

  @runs :run_recorder_runs
  @pids :run_recorder_pids
  @new_pids :run_recorder_new_pids
  # Who cancelled a job says so after the job's process has ended.
  @job_delay 2_000

  @doc "The tables; they belong to the calling process, the supervisor."
  def new_tables do
    :ets.new(@runs, [:ordered_set, :public, :named_table, write_concurrency: true])
    :ets.new(@pids, [:set, :public, :named_table, read_concurrency: true])
    :ets.new(@new_pids, [:set, :public, :named_table])
  end

  def start_link(buffer), do: GenServer.start_link(__MODULE__, buffer, name: __MODULE__)

  ## Callers; nothing raises, and nothing happens where the application does not run

  @doc "A run of that process is under way. Answers what ends it."
  def begin(run_id, how, pid \\ self()) do
    Client.with_open(nil, fn buffer ->
      row = {pid, System.unique_integer([:monotonic])}
      :ets.insert(@runs, {row, run_id, how, :none})
      unless :ets.member(@pids, pid), do: monitor(buffer, pid)
      row
    end)
  end

  # One message at most is on its way.
  defp monitor(buffer, pid) do
    :ets.insert(@new_pids, {pid})

    with false <- Buffer.raise_flag(buffer, :watch), watch when is_pid(watch) <- Process.whereis(__MODULE__) do
      send(watch, :new)
    end
  end

  @doc "The run has ended, and it was said how. Answers {run_id, result}, or nil where that was so before."
  def finish(nil), do: nil

  def finish(row) do
    Client.with_open(nil, fn _buffer ->
      case :ets.take(@runs, row) do
        [{_row, run_id, _how, result}] -> {run_id, result}
        [] -> nil
      end
    end)
  end

  @doc "What the run's work has set as its result, for its end; :none where nothing."
  def result(row) do
    Client.with_open(:none, fn _buffer ->
      case :ets.lookup(@runs, row) do
        [{_row, _run_id, _how, result}] -> result
        [] -> :none
      end
    end)
  end

  def put_result(row, value) do
    Client.with_open(:ok, fn _buffer ->
      :ets.update_element(@runs, row, {4, {:set, value}})
      :ok
    end)
  end

  @doc "The rows of a run that is under way."
  def rows(run_id) do
    Client.with_open([], fn _buffer -> :ets.select(@runs, [{{:"$1", run_id, :_, :_}, [], [:"$1"]}]) end)
  end

  @doc "Says now what would be said after a delay; at the end."
  def say_all do
    GenServer.call(__MODULE__, :say_all, 1_000)
  catch
    :exit, _reason -> :ok
  end

  @doc "The {row, run_id} of those jobs that are under way."
  def jobs(instance, job_ids) do
    Client.with_open([], fn _buffer ->
      rows = :ets.select(@runs, [{{:"$1", :"$2", {:job, instance, :"$3"}, :_}, [], [{{:"$1", :"$2", :"$3"}}]}])
      for {row, run_id, job_id} <- rows, job_id in job_ids, do: {row, run_id}
    end)
  end

  ## The process; its state is the buffer, and the rows of jobs whose process ended, with the time to say so

  @impl true
  def init(buffer) do
    for {{pid, _number}, _run_id, _how, _result} <- :ets.tab2list(@runs), do: :ets.insert(@new_pids, {pid})
    :ets.delete_all_objects(@pids)
    send(self(), :new)
    {:ok, {buffer, []}}
  end

  @impl true
  def handle_call(:say_all, _from, {buffer, ended}) do
    Enum.each(ended, fn {_due, row, reason} -> lost(row, reason) end)
    {:reply, :ok, {buffer, []}}
  end

  @impl true
  def handle_info(message, {buffer, ended}) do
    {:noreply, {buffer, handle(message, buffer, ended)}}
  rescue
    _tables_gone -> {:noreply, {buffer, ended}}
  end

  defp handle(:new, buffer, ended) do
    Buffer.put(buffer, :watch, 0)
    Enum.each(:ets.tab2list(@new_pids), fn {pid} -> begin_monitor(pid) end)
    ended
  end

  defp handle({:DOWN, _monitor, :process, pid, reason}, _buffer, ended) do
    :ets.delete(@pids, pid)
    Enum.reduce(rows_of(pid), ended, fn {row, _run_id, how, _result}, ended -> ended(how, row, reason, ended) end)
  end

  defp handle(:say, _buffer, ended) do
    {due, later} = Enum.split_with(ended, fn {due, _row, _reason} -> due <= now() end)
    Enum.each(due, fn {_due, row, reason} -> lost(row, reason) end)
    later
  end

  defp handle(_other, _buffer, ended), do: ended

  defp begin_monitor(pid) do
    if :ets.insert_new(@pids, {pid}), do: Process.monitor(pid)
    :ets.delete(@new_pids, pid)
  end

  defp rows_of(pid), do: :ets.match_object(@runs, {{pid, :_}, :_, :_, :_})

  defp ended({:job, _instance, _job_id}, row, reason, ended) do
    Process.send_after(self(), :say, @job_delay + 10)
    [{now() + @job_delay, row, reason} | ended]
  end

  # Who began to record a council may leave its work to another process.
  defp ended(:council, row, :normal, ended) do
    finish(row)
    ended
  end

  # To be told to stop is how work is cancelled here.
  defp ended(:run, row, reason, ended) when reason == :shutdown or elem(reason, 0) == :shutdown do
    with {run_id, _result} <- finish(row) do
      Client.emit(run_id, "run_failed", %{errors: [%{kind: "cancelled", message: "its process was told to stop"}]})
    end

    ended
  end

  defp ended(_how, row, reason, ended) do
    lost(row, reason)
    ended
  end

  defp lost(row, reason) do
    with {run_id, _result} <- finish(row) do
      Client.emit(run_id, "run_lost", %{message: "its process ended: #{in_words(reason)}"})
    end
  end

  # It ended before the monitor was there.
  defp in_words(:noproc), do: "how is not known"

  defp in_words(reason) do
    RunRecorder.Encoder.readable(fn ->
      reason |> RunRecorder.Text.exit_reason() |> RunRecorder.Text.characters(1_000)
    end)
  end

  defp now, do: System.monotonic_time(:millisecond)
end
