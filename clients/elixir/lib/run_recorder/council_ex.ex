defmodule RunRecorder.CouncilEx do
  @moduledoc """
  Records CouncilEx's runs: an implementation of its Recorder behaviour (`CouncilEx.Recorder`).

      CouncilEx.run(council, input, recorder: {RunRecorder.CouncilEx, []})

  | CouncilEx calls | is sent |
  |---|---|
  | `handle_event`: `run_started` | `run_started` with `council` and `input` |
  | `round_started`, `member_started`, `tool_call_request`, `tool_call_result`, `member_completed`, `round_completed` | an event of that type, its fields as `payload`; token counts also as `usage` |
  | `member_token` | nothing |
  | `run_completed`, `run_failed` | nothing: `handle_finalize` has the outcome |
  | `handle_finalize` with `{:ok, result}`, `{:error, why}`, `:cancelled` | `run_completed`, `run_failed`, `run_failed` with kind `cancelled` |

  Inside of an Oban job, `recorder: {RunRecorder.CouncilEx, job: job}` says which job the run belongs to. CouncilEx's own worker
  makes a new run id for each retry; the first is in the job's `args["run_id"]` and becomes the parent of the others. Do not
  attach `RunRecorder.Oban` to the same worker too, or each execution has two runs (its `:ignore` leaves a worker out).

  Other arguments: every field of `run_started`, as `attempt`, `parent`, `queue`, `oban_job_id`.

  The callbacks run where the council runs; they return at once and never raise. Do not use `mode: :multi_node` beside it: that
  has CouncilEx write the same rows itself.

  Written from the documentation of CouncilEx 0.1.0, which names the callbacks and the events; an event may be a map with `:type`,
  a struct, or a tuple that begins with its type.
  """

  alias RunRecorder.{Client, Encoder, Fields, Text, Watch}

  @silent ~w(member_token run_completed run_failed)

  @doc "Keeps the run's id and what `args` says of it."
  def init(run_id, args) do
    {:ok, %{run_id: run_id, given: given(args), row: Watch.begin(Fields.run_id(run_id), :council)}}
  rescue
    _unknown_form -> {:ok, %{run_id: run_id, given: %{}, row: nil}}
  end

  @doc "Sends an event of the council."
  def handle_event(event, state) do
    send_event(event, state)
    {:ok, state}
  rescue
    _unknown_form -> {:ok, state}
  end

  @doc "Sends how the run ended."
  def handle_finalize(outcome, state) do
    {type, fields} = ended(outcome)
    Client.emit(state.run_id, type, fields)
    Watch.finish(state.row)
    :ok
  rescue
    _unknown_form -> :ok
  end

  defp send_event(event, state) do
    {type, fields} = parts(event)

    cond do
      type in @silent -> :ok
      type == "run_started" -> Client.emit(state.run_id, type, Map.merge(started(fields), state.given))
      true -> Client.emit(state.run_id, type, with_usage(fields))
    end
  end

  defp started(fields), do: Map.take(fields, ["council", "input"])

  defp parts({type, fields}), do: {Text.of(type), fields_of(fields)}
  defp parts(event) when is_tuple(event), do: {Text.of(elem(event, 0)), fields_of(elem(event, tuple_size(event) - 1))}
  defp parts(%{type: type} = event), do: {Text.of(type), event |> fields_of() |> Map.delete("type")}
  defp parts(%{"type" => type} = event), do: {Text.of(type), Map.delete(event, "type")}
  defp parts(%module{} = event), do: {module |> Module.split() |> List.last() |> Macro.underscore(), fields_of(event)}
  defp parts(type), do: {Text.of(type), %{}}

  defp fields_of(fields) when is_map(fields), do: fields |> Fields.named() |> Map.drop(["run_id", "__struct__"])

  defp fields_of(fields),
    do: if(Encoder.keyword?(fields), do: fields |> Map.new() |> fields_of(), else: %{"value" => fields})

  # Wherever a council's member says what it used. A field beside the payload may not be in it too.
  defp with_usage(fields) do
    counts = Fields.named(fields["usage"] || fields)
    usage = for {key, count} <- counts, is_number(count), String.ends_with?(key, "_tokens"), into: %{}, do: {key, count}
    if usage == %{}, do: %{payload: fields}, else: %{payload: Map.delete(fields, "usage"), usage: usage}
  end

  defp ended({:ok, result}), do: {"run_completed", %{result: result}}
  defp ended(:cancelled), do: {"run_failed", %{errors: ["cancelled"]}}
  defp ended({:error, errors}) when is_list(errors), do: {"run_failed", %{errors: Enum.map(errors, &error/1)}}
  defp ended({:error, why}), do: {"run_failed", %{errors: [error(why)]}}
  defp ended(other), do: {"run_failed", %{errors: [error(other)]}}

  defp error(text) when is_binary(text), do: %{message: text}
  defp error(%{__exception__: true} = exception), do: exception
  defp error(%_{} = struct), do: Map.from_struct(struct)
  defp error(object) when is_map(object), do: object
  defp error(other), do: %{message: Encoder.readable(fn -> Text.inspected(other) end)}

  defp given(args) do
    {job, given} = args |> Fields.named() |> Map.pop("job")
    {parent, given} = Map.pop(given, "parent")
    given = if parent == nil, do: given, else: Map.put_new(given, "parent_attempt_run_id", parent)
    Map.merge(of_job(job), given)
  end

  defp of_job(%{id: id, attempt: attempt, args: args}) do
    %{
      "oban_job_id" => id,
      "attempt" => attempt,
      "parent_attempt_run_id" => if(attempt > 1, do: (args || %{})["run_id"])
    }
  end

  defp of_job(_none), do: %{}
end
