# The agent of the shared cases (clients/cases/README.md): does with the client what standard input says, one JSON object a
# line, and answers each with one. test/cases_agent.sh compiles the client and starts it.

defmodule CasesAgent.Named do
  defstruct [:name]
end

defmodule CasesAgent.Raises do
  defstruct []

  defimpl String.Chars do
    def to_string(_value), do: raise(ArgumentError, "it cannot be read")
  end
end

defmodule CasesAgent.Values do
  @moduledoc "Terms for the objects of the commands that stand for values of the language."

  @not_here %{
    "nan" => "the BEAM has no NaN",
    "infinity" => "the BEAM has no infinity",
    "-infinity" => "the BEAM has no infinity",
    "cycle" => "terms cannot contain themselves"
  }

  def term(%{"$" => kind} = value), do: special(kind, value)
  def term(map) when is_map(map), do: Map.new(map, fn {key, value} -> {key, term(value)} end)
  def term(list) when is_list(list), do: Enum.map(list, &term/1)
  def term(other), do: other

  defp special("bytes", %{"hex" => hex}), do: Base.decode16!(hex, case: :mixed)
  defp special("surrogate", _value), do: <<"a", 0xED, 0xA0, 0x80, "b">>
  defp special("integer", %{"text" => text}), do: String.to_integer(text)
  defp special("text", %{"bytes" => bytes}), do: String.duplicate("x", bytes)
  defp special("deep", %{"levels" => levels}), do: Enum.reduce(2..levels, [], fn _level, inner -> [inner] end)
  defp special("raises", _value), do: %CasesAgent.Raises{}
  defp special("keys", _value), do: %{1 => "an integer", "1" => "a text"}
  defp special("object", _value), do: %CasesAgent.Named{name: "x"}
  defp special("wide", %{"count" => count}), do: List.duplicate(String.duplicate("x", 100), count)
  defp special(kind, _value), do: throw({:skipped, Map.get(@not_here, kind, "the agent knows no #{kind}")})
end

defmodule CasesAgent.Commands do
  alias CasesAgent.Values

  def loop do
    case IO.binread(:stdio, :line) do
      line when is_binary(line) ->
        {:ok, command} = RunRecorder.Decoder.decode(line)
        answer(command)
        loop()

      _end ->
        :ok
    end
  end

  defp answer(command) do
    answer =
      try do
        act(command["do"], command)
      catch
        :throw, {:skipped, why} -> %{skipped: why}
      end

    IO.binwrite(:stdio, [RunRecorder.Encoder.value("", answer, 1_000_000), ?\n])
  end

  defp act("open", command) do
    Application.stop(:run_recorder)
    Application.put_env(:run_recorder, :socket, command["socket"])
    setting(:buffer_bytes, command["buffer_bytes"])
    setting(:flush_timeout, command["flush_ms"])
    {:ok, _started} = Application.ensure_all_started(:run_recorder)
    %{}
  end

  defp act("event", command) do
    RunRecorder.event(Values.term(command["run_id"]), command["type"], Values.term(command["fields"] || %{}))
    %{}
  end

  defp act("run", command) do
    outcome = outcome(command)
    options = Map.put(Values.term(command["fields"] || %{}), "run_id", Values.term(command["run_id"]))
    %{came_out: came_out(Values.term(command["council"]), options, outcome)}
  end

  defp act("jobs", %{"first" => first, "count" => count, "council" => council}) do
    for number <- first..(first + count - 1)//1 do
      RunRecorder.run(council, [run_id: "job-#{number}"], fn run -> RunRecorder.Run.progress(run, 1, 2, "steps") end)
    end

    %{}
  end

  defp act("events", %{"run_id" => run_id, "type" => type, "count" => count}) do
    times = for number <- 0..(count - 1)//1, do: timed(run_id, type, number)
    sorted = Enum.sort(times)
    at = fn share -> Enum.at(sorted, min(trunc(count * share), count - 1)) / 1000 end
    %{total_us: Enum.sum(times) / 1000, median_us: at.(0.5), p99_us: at.(0.99), max_us: at.(1)}
  end

  defp act("stats", _command), do: RunRecorder.stats()
  defp act("flush", command), do: %{flushed: RunRecorder.flush(command["timeout_ms"])}
  defp act("fork", _command), do: %{skipped: "the BEAM does not fork"}

  defp act("close", _command) do
    RunRecorder.close()
    %{}
  end

  defp act("exit", _command) do
    System.stop(0)
    Process.sleep(:infinity)
  end

  defp setting(_name, nil), do: :ok
  defp setting(name, value), do: Application.put_env(:run_recorder, name, value)

  defp outcome(%{"outcome" => "return"} = command), do: {:return, Values.term(command["result"])}
  defp outcome(%{"outcome" => "raise"} = command), do: {:raise, %RuntimeError{message: command["message"]}}
  defp outcome(%{"outcome" => "cancel"}), do: {:exit, :shutdown}

  defp came_out(council, options, {way, what} = outcome) do
    result =
      try do
        {:return, RunRecorder.run(council, options, fn -> work(outcome) end)}
      catch
        :error, exception -> {:raise, exception}
        kind, reason -> {kind, reason}
      end

    if result === {way, what}, do: "as it was", else: inspect(result, limit: 5, printable_limit: 100)
  end

  defp work({:return, value}), do: value
  defp work({:raise, exception}), do: raise(exception)
  defp work({:exit, reason}), do: exit(reason)

  defp timed(run_id, type, number) do
    fields = %{payload: %{n: number}, progress: %{done: number, total: 1_000_000}}
    before = System.monotonic_time(:nanosecond)
    RunRecorder.event(run_id, type, fields)
    System.monotonic_time(:nanosecond) - before
  end
end

# Compiled without Mix there is no application file.
:application.load(
  {:application, :run_recorder,
   [applications: [:kernel, :stdlib, :elixir, :logger, :crypto], mod: {RunRecorder.Application, []}, env: []]}
)

# The log goes to standard error, in older and newer versions of Elixir.
Application.stop(:logger)
Application.put_env(:logger, :console, device: :standard_error)
Application.put_env(:logger, :default_handler, config: [type: :standard_error])
Application.start(:logger)
:io.setopts(:standard_io, encoding: :latin1)
CasesAgent.Commands.loop()
