# A worker in Elixir (1.14 or later) that records one run and sends each event again until it is acknowledged.
#
# usage: elixir worker.exs [RUN_ID]     prints the run's id; exits 1 where an event is refused for good
#
# An application would build and read the JSON with a library; the few lines here only keep the script by itself.

defmodule Events do
  @moduledoc """
  Sends one event after the other over one connection. Each has an id, so that sending it again changes nothing.
  """
  @answer_timeout_ms 10_000
  @first_pause_ms 100
  @longest_pause_ms 5_000
  @worth_resending ["spool_full", "unavailable"]

  defstruct [:path, :run_id, socket: nil, lines: 0, number: 0]

  def new(path, run_id), do: %Events{path: path, run_id: run_id}

  @doc "Returns when the event is acknowledged. Waits for a daemon that is away."
  def emit(events, type, fields) do
    events = %{events | number: events.number + 1}
    # The node's: when it ends none of its jobs can go on. That one job's process has died it does not show; see Watch.
    worker_pid = String.to_integer(System.pid())
    common = %{type: type, run_id: events.run_id, id: "#{events.run_id}-#{events.number}", worker_pid: worker_pid}
    deliver(events, json(Map.merge(common, fields)), @first_pause_ms)
  end

  defp deliver(%Events{socket: nil} = events, line, pause_ms) do
    options = [:binary, packet: :line, active: false, buffer: 65_536]

    case :gen_tcp.connect({:local, events.path}, 0, options) do
      {:ok, socket} -> deliver(%{events | socket: socket, lines: 0}, line, pause_ms)
      {:error, _away} -> deliver_later(events, line, pause_ms)
    end
  end

  defp deliver(events, line, pause_ms) do
    events = %{events | lines: events.lines + 1}

    with :ok <- :gen_tcp.send(events.socket, line <> "\n"),
         :acknowledged <- outcome(events, :acknowledged) do
      events
    else
      {:refused, answer} ->
        raise "refused: " <> String.trim(answer)

      :send_again ->
        deliver_later(events, line, pause_ms)

      {:error, _broken} ->
        :gen_tcp.close(events.socket)
        deliver_later(%{events | socket: nil}, line, pause_ms)
    end
  end

  defp deliver_later(events, line, pause_ms) do
    Process.sleep(pause_ms)
    deliver(events, line, min(pause_ms * 2, @longest_pause_ms))
  end

  # Reads answers until the last line is settled; an error about it comes before the acknowledgement that covers it.
  defp outcome(events, so_far) do
    with {:ok, answer} <- :gen_tcp.recv(events.socket, 0, @answer_timeout_ms) do
      case read(answer) do
        {:acked, line} when line >= events.lines -> so_far
        {:error, 0, code} when code in @worth_resending -> {:error, code}
        {:error, line, code} when line > 0 and code in @worth_resending -> outcome(events, :send_again)
        {:error, 0, _code} -> {:refused, answer}
        {:error, _line, _code} -> outcome(events, {:refused, answer})
        _earlier -> outcome(events, so_far)
      end
    end
  end

  defp read(answer) do
    case Regex.run(~r/"line":(\d+),"code":"(\w+)"/, answer) do
      [_, line, code] -> {:error, String.to_integer(line), code}
      nil -> read_acked(Regex.run(~r/"acked":(\d+)/, answer))
    end
  end

  defp read_acked([_, line]), do: {:acked, String.to_integer(line)}
  defp read_acked(nil), do: :something_else

  defp json(map) when is_map(map) do
    "{" <> Enum.map_join(map, ",", fn {key, value} -> json("#{key}") <> ":" <> json(value) end) <> "}"
  end

  defp json(list) when is_list(list), do: "[" <> Enum.map_join(list, ",", &json/1) <> "]"
  defp json(number) when is_integer(number), do: Integer.to_string(number)

  defp json(text) when is_binary(text) do
    escape = fn <<byte>> -> "\\u" <> (byte |> Integer.to_string(16) |> String.pad_leading(4, "0")) end
    "\"" <> Regex.replace(~r/["\\\x00-\x1f]/, text, escape) <> "\""
  end
end

defmodule Outcome do
  @moduledoc """
  What an Oban worker's perform/1 returned, as the event that ends its run. With job_state where the run has a job: asked from
  inside of it, the queue always says executing.
  """
  def event({:ok, result}), do: {"run_completed", %{result: result, job_state: "completed"}}
  # The convention for an end that is no failure: the next claim is another run.
  def event({:snooze, seconds}), do: {"run_completed", %{result: %{snoozed: seconds}, job_state: "scheduled"}}
  def event({:cancel, reason}), do: failed("cancelled", reason, "cancelled")
  # After the last attempt it would be discarded.
  def event({:error, reason}), do: failed("error", reason, "retryable")

  defp failed(kind, reason, job_state) do
    {"run_failed", %{errors: [%{kind: kind, message: inspect(reason)}], job_state: job_state}}
  end
end

defmodule Watch do
  @moduledoc """
  Records what the process of a job tells, and that it died without telling: the daemon sees only the node.
  """
  @heartbeat_ms 30_000
  def expires_in, do: div(3 * @heartbeat_ms, 1000)

  @doc "The job's process sends {:event, type, fields} and at last {:outcome, what perform returned}."
  def until_end(events, {pid, monitor} = job) do
    receive do
      {:event, type, fields} ->
        events |> Events.emit(type, fields) |> until_end(job)

      {:outcome, outcome} ->
        {type, fields} = Outcome.event(outcome)
        # There is no job in this script.
        Events.emit(events, type, Map.delete(fields, :job_state))

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        Events.emit(events, "run_lost", %{message: "the process of the job ended: #{inspect(reason)}"})
    after
      # Where the daemon cannot see this node, in a container of another host, only this shows that the run is alive.
      @heartbeat_ms -> events |> Events.emit("run_heartbeat", %{expires_in: expires_in()}) |> until_end(job)
    end
  end
end

path = System.get_env("RUN_RECORDER_SOCKET_PATH", "/run/run-recorder/events.sock")
run_id = List.first(System.argv()) || Base.encode16(:crypto.strong_rand_bytes(16), case: :lower)

started = %{council: "example-exs", input: %{rows: 3}, expires_in: Watch.expires_in()}
events = Events.emit(Events.new(path, run_id), "run_started", started)
recorder = self()

job =
  spawn_monitor(fn ->
    for row <- 1..3 do
      progress = %{done: row, total: 3, unit: "rows"}
      send(recorder, {:event, "row_done", %{payload: %{row: row}, progress: progress}})
    end

    send(recorder, {:outcome, {:ok, %{rows: 3}}})
  end)

Watch.until_end(events, job)
IO.puts(run_id)
