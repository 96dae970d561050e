defmodule RunRecorder.Run do
  @moduledoc """
  A run that is under way, as `RunRecorder.run/3` gives it to the work. Its functions may be called from any process; they
  return `:ok` at once and never raise.
  """

  alias RunRecorder.{Client, Encoder, Fields, Text, UUID, Watch}

  @stacktrace_bytes 8_192

  @enforce_keys [:id]
  defstruct [:id, :row]

  @type t :: %__MODULE__{id: String.t()}

  @doc "How far the work is: `done` of `total`, both numbers, in `unit`."
  @spec progress(t, number, number | nil, String.t() | nil) :: :ok
  def progress(run, done, total \\ nil, unit \\ nil) do
    emit(run, "progress", %{progress: %{done: done, total: total, unit: unit}})
  end

  @doc "What the work used, as `input_tokens: 1200, cost_usd: 0.02`. The daemon adds it up by key."
  @spec usage(t, keyword | map) :: :ok
  def usage(run, usage), do: emit(run, "usage", %{usage: usage})

  @doc "Something that happened: any type, with `payload` in the run's history."
  @spec event(t, atom | String.t(), map | keyword) :: :ok
  def event(run, type, payload \\ %{}), do: emit(run, type, %{payload: payload})

  @doc "The work is alive; with `expires_in` for so many seconds at least."
  @spec heartbeat(t, pos_integer | nil) :: :ok
  def heartbeat(run, expires_in \\ nil), do: emit(run, "run_heartbeat", %{expires_in: expires_in})

  @doc "What the run's result is, instead of what the work returns."
  @spec put_result(t, term) :: :ok
  def put_result(%__MODULE__{row: row}, result), do: Watch.put_result(row, result)
  def put_result(_no_run, _result), do: :ok

  defp emit(%__MODULE__{id: id}, type, fields), do: Client.emit(id, type, fields)
  defp emit(_no_run, _type, _fields), do: :ok

  @doc false
  def begin(name, options) do
    {id, fields} = identify(options)
    row = Watch.begin(id, :run)
    Client.emit(id, "run_started", Map.put(fields, "council", name))
    %__MODULE__{id: id, row: row}
  rescue
    _whatever_was_given -> %__MODULE__{id: nil}
  end

  defp identify(options) do
    {run_id, fields} = options |> Fields.named() |> Map.pop("run_id")
    {parent, fields} = Map.pop(fields, "parent")
    fields = if parent == nil, do: fields, else: Map.put_new(fields, "parent_attempt_run_id", parent)
    {Fields.run_id(run_id) || UUID.v7(), fields}
  end

  @doc false
  def completed(%__MODULE__{id: id, row: row}, value) do
    result =
      case Watch.result(row) do
        {:set, result} -> result
        :none -> value
      end

    Client.emit(id, "run_completed", %{result: result})
    Watch.finish(row)
    :ok
  end

  @doc false
  def failed(%__MODULE__{id: id, row: row}, kind, reason, stacktrace) do
    Client.emit(id, "run_failed", %{errors: [error(kind, reason, stacktrace)]})
    Watch.finish(row)
    :ok
  end

  @doc false
  # What was raised, thrown or exited with, as an element of `errors`.
  def error(kind, reason, stacktrace) do
    reason = if kind == :error, do: Encoder.readable(fn -> Text.normalized(reason, stacktrace) end), else: reason

    %{
      kind: kind(kind, reason),
      message: Encoder.readable(fn -> message(kind, reason) end),
      stacktrace: Encoder.readable(fn -> stacktrace |> Text.stacktrace() |> Text.cut(@stacktrace_bytes) end)
    }
  end

  defp kind(:error, %{__exception__: true, __struct__: module}), do: Text.atom(module)
  defp kind(:exit, :shutdown), do: "cancelled"
  defp kind(:exit, {:shutdown, _why}), do: "cancelled"
  defp kind(kind, _reason), do: Text.of(kind)

  defp message(:error, exception) when is_exception(exception), do: Text.message(exception)
  defp message(:exit, reason), do: Text.exit_reason(reason)
  defp message(_kind, reason), do: Text.inspected(reason)
end
