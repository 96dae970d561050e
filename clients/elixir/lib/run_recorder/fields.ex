defmodule RunRecorder.Fields do
  # What the daemon takes in each field: texts cut to their limits, numbers within their bounds, nulls left out. Pure; any
  # process.
  @moduledoc false

  alias RunRecorder.{Encoder, Text}

  @texts %{
    "council" => 255,
    "host" => 255,
    "unit" => 255,
    "user" => 255,
    "queue" => 64,
    "job_state" => 64,
    "cwd" => 1024,
    "command" => 1024
  }
  @integers %{
    "attempt" => 2_147_483_647,
    "oban_job_id" => 9_223_372_036_854_775_807,
    "expires_in" => 2_678_400
  }
  @id_bytes 255
  @job_id_limit 9_223_372_036_854_775_807
  # The types whose payload is no field of its own.
  @run_types ~w(run_queued run_started run_completed run_failed run_heartbeat run_lost)

  # Of a reduced event.
  @reduced_errors 10
  @reduced_characters 1_000

  @doc "Fields as a map with texts as keys; what is no map and no keyword list has no fields."
  def named(%_{} = struct), do: struct |> Map.from_struct() |> named()
  def named(fields) when is_map(fields), do: Map.new(fields, fn {key, value} -> {Encoder.key_text(key), value} end)
  def named(fields), do: if(Encoder.keyword?(fields), do: fields |> Map.new() |> named(), else: %{})

  @doc "What becomes of a field: {:ok, value}, with terms that the encoder takes, or :omit."
  def field(name, value, type)
  def field(name, nil, _type), do: if(name in ["input", "result"], do: {:ok, nil}, else: :omit)
  def field(name, value, _type) when is_map_key(@texts, name), do: text(value, @texts[name])
  def field(name, value, _type) when is_map_key(@integers, name), do: integer(value, @integers[name])
  def field("job_id", id, _type) when is_integer(id) and abs(id) <= @job_id_limit, do: {:ok, id}
  def field("job_id", value, _type), do: text(value, @id_bytes)
  def field("parent_attempt_run_id", value, _type), do: value |> run_id() |> given()
  def field("usage", value, _type), do: usage(value)
  def field("progress", value, _type), do: progress(named(value))
  def field("errors", value, _type), do: {:ok, errors(value)}
  def field("message", value, "run_lost"), do: {:ok, value |> text_of() |> Text.scrub()}
  def field("payload", value, type) when type not in @run_types, do: {:ok, payload(value)}
  def field(_name, value, _type), do: {:ok, value}

  @doc "The id as the daemon takes it; nil where there is none."
  def run_id(nil), do: nil

  def run_id(value) do
    case value |> text_of() |> Text.scrub() do
      "" -> nil
      id when byte_size(id) <= @id_bytes -> id
      long -> Text.cut(long, 200) <> "~" <> digest(long)
    end
  end

  defp digest(text) do
    :sha256 |> :crypto.hash(text) |> binary_part(0, 16) |> Base.encode16(case: :lower)
  end

  @doc "A type as the daemon takes it: [a-z][a-z0-9_.]*, at most 64 bytes."
  def type(value) do
    text = value |> text_of() |> Text.cut(64)
    if plain_type?(text), do: text, else: text |> String.downcase(:ascii) |> typed()
  end

  defp plain_type?(<<first, rest::binary>>) when first in ?a..?z, do: type_rest?(rest)
  defp plain_type?(_text), do: false

  defp type_rest?(<<byte, rest::binary>>) when byte in ?a..?z or byte in ?0..?9 or byte in [?_, ?.],
    do: type_rest?(rest)

  defp type_rest?(rest), do: rest == ""

  defp typed(text) do
    text = text |> Text.scrub() |> String.replace(~r/[^a-z0-9_.]/u, "_")
    text = if text =~ ~r/\A[a-z]/, do: text, else: "event_" <> text
    Text.cut(text, 64)
  end

  defp text(value, limit) do
    value |> text_of() |> Text.limited(limit) |> given()
  end

  defp text_of(value), do: Encoder.readable(fn -> Text.of(value) end)

  defp given(text), do: if(text in [nil, ""], do: :omit, else: {:ok, text})

  defp integer(value, max) when is_integer(value) and value >= 1 and value <= max, do: {:ok, value}
  defp integer(_value, _max), do: :omit

  defp usage(value) do
    case for {key, number} <- named(value), Encoder.finite?(number), into: %{}, do: {key, number} do
      none when map_size(none) == 0 -> :omit
      numbers -> {:ok, numbers}
    end
  end

  defp progress(%{"done" => done} = progress) do
    total = progress["total"]

    if Encoder.finite?(done) and (total == nil or Encoder.finite?(total)) do
      {:ok, %{"done" => done} |> put("total", total) |> put("unit", unit(progress["unit"]))}
    else
      :omit
    end
  end

  defp progress(_other), do: :omit

  defp unit(nil), do: nil
  defp unit(value), do: with({:ok, text} <- text(value, 64), do: text)

  defp put(map, _key, none) when none in [nil, :omit], do: map
  defp put(map, key, value), do: Map.put(map, key, value)

  # A list of texts and objects.
  defp errors(errors) when is_list(errors) do
    if Encoder.keyword?(errors), do: [errors], else: each_error(errors)
  end

  defp errors(error), do: errors([error])

  defp each_error([error | rest]), do: [error(error) | each_error(rest)]
  defp each_error([]), do: []
  defp each_error(improper), do: [error(improper)]

  defp error(text) when is_binary(text), do: text
  defp error(%{__exception__: true} = exception), do: exception
  defp error(%_{} = struct), do: text_of(struct)
  defp error(object) when is_map(object), do: object
  defp error(other), do: if(Encoder.keyword?(other), do: other, else: text_of(other))

  defp payload(%_{} = struct), do: %{"value" => struct}
  defp payload(object) when is_map(object), do: object
  defp payload(other), do: if(Encoder.keyword?(other), do: other, else: %{"value" => other})

  @known Map.keys(@texts) ++ Map.keys(@integers) ++ ~w(job_id parent_attempt_run_id usage progress errors)

  @doc """
  What a reduced event keeps of its fields. That is certain to be taken, and small but for `usage`: the second time, where the
  line is too large still, that goes too.
  """
  def reduced(fields, type, keep_usage? \\ true) do
    known = if type == "run_lost", do: ["message" | @known], else: @known
    known = if keep_usage?, do: known, else: known -- ["usage"]

    fields
    |> Map.take(known)
    |> Map.new(fn
      {"errors", value} when value != nil -> {"errors", reduced_errors(value)}
      {"message", value} -> {"message", value |> text_of() |> Text.characters(@reduced_characters)}
      other -> other
    end)
    |> Map.put("truncated", true)
  end

  defp reduced_errors(value) do
    value |> errors() |> Enum.take(@reduced_errors) |> Enum.map(&reduced_error/1)
  end

  defp reduced_error(text) when is_binary(text), do: Text.characters(text, @reduced_characters)

  defp reduced_error(%{__exception__: true} = exception) do
    message = Encoder.readable(fn -> Text.message(exception) end)
    reduced_error(%{kind: exception.__struct__, message: message})
  end

  defp reduced_error(object) do
    for {key, value} <- object |> named() |> Map.take(["kind", "message"]), value != nil, into: %{} do
      {key, value |> text_of() |> Text.characters(@reduced_characters)}
    end
  end
end
