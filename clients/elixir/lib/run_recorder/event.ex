defmodule RunRecorder.Event do
  # Makes the line of an event. Called by whoever emits it, in that process, so that values are read when the event happens.
  @moduledoc false

  alias RunRecorder.{Clock, Encoder, Fields}

  @lifecycle ~w(run_queued run_started run_completed run_failed run_lost)
  # These say nothing of the sender's process: what they tell holds whether it lives or not.
  @of_no_process ~w(run_queued run_heartbeat run_lost)
  @header ~w(type run_id id at worker_pid)

  @doc """
  {class, line, truncated?}, with class :lifecycle or :detail, or :no_run_id.
  `sender` has `max_event_bytes` and `worker_pid`; `id` is the event's where the fields bring none.
  """
  def build(sender, run_id, type, fields, id) do
    case Fields.run_id(run_id) do
      nil -> :no_run_id
      run_id -> line(sender, run_id, Fields.type(type), Fields.named(fields), id)
    end
  end

  defp line(sender, run_id, type, fields, id) do
    max = sender.max_event_bytes
    header = header(type, run_id, id(fields, id), at(fields), worker_pid(fields, type, sender))
    fields = Map.drop(fields, @header)
    class = if type in @lifecycle, do: :lifecycle, else: :detail

    case encode(header, type, fields, max) do
      :too_large -> {class, reduced(header, type, fields, max), true}
      line -> {class, line, false}
    end
  end

  @doc "The line of an event that the daemon refused without what may have made it so, or :error."
  def reduce(line, max) do
    with {:ok, %{"type" => type, "run_id" => run_id, "id" => id, "at" => at} = event} <-
           RunRecorder.Decoder.decode(line),
         true <- Enum.all?([type, run_id, id, at], &is_binary/1) do
      header = header(type, run_id, id, at, event["worker_pid"])
      reduced(header, type, Map.drop(event, @header), max)
    else
      _none_of_a_client -> :error
    end
  end

  # Types and times need no quoting.
  defp header(type, run_id, id, at, worker_pid) do
    json = Encoder.text(<<"{\"type\":\"", type::binary, "\",\"run_id\":">>, run_id, :infinity)
    json = Encoder.text(<<json::binary, ",\"id\":">>, id, :infinity)
    with_pid(<<json::binary, ",\"at\":\"", at::binary, ?">>, worker_pid)
  end

  defp with_pid(header, pid) when is_integer(pid) do
    <<header::binary, ",\"worker_pid\":", Integer.to_string(pid)::binary>>
  end

  defp with_pid(header, _none), do: header

  defp reduced(header, type, fields, max) do
    with :too_large <- encode(header, type, Fields.reduced(fields, type), max),
         :too_large <- encode(header, type, Fields.reduced(fields, type, false), max) do
      :error
    end
  end

  defp encode(header, type, fields, max) do
    json = Enum.reduce(fields, header, fn field, json -> field(json, field, type, max) end)
    # The binary that grew has room to grow further.
    if byte_size(json) < max, do: :binary.copy(<<json::binary, ?}>>), else: :too_large
  catch
    :too_large -> :too_large
  end

  defp field(json, {name, value}, type, max) do
    case Fields.field(name, value, type) do
      {:ok, value} -> member(<<json::binary, ?,>>, {name, value}, max)
      :omit -> json
    end
  end

  defp member(json, {name, value}, max) do
    json = Encoder.text(json, name, max)
    Encoder.value(<<json::binary, ?:>>, value, max)
  end

  defp id(%{"id" => given}, _id) when is_binary(given) and given != "", do: RunRecorder.Text.limited(given, 64)
  defp id(_fields, id), do: id

  defp at(%{"at" => %DateTime{year: year} = time}) when year in 0..9999 do
    time |> DateTime.to_unix(:microsecond) |> Clock.rfc3339()
  rescue
    _no_time -> at(%{})
  end

  defp at(%{"at" => text}) when is_binary(text) do
    case DateTime.from_iso8601(text) do
      {:ok, _time, _offset} -> text
      _other -> at(%{})
    end
  end

  defp at(_fields), do: Clock.rfc3339(System.os_time(:microsecond))

  defp worker_pid(%{"worker_pid" => pid}, _type, _sender) do
    if is_integer(pid) and pid in 1..2_147_483_647, do: pid, else: nil
  end

  defp worker_pid(_fields, type, _sender) when type in @of_no_process, do: nil
  defp worker_pid(_fields, _type, sender), do: sender.worker_pid
end
