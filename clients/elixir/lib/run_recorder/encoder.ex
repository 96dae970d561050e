defmodule RunRecorder.Encoder do
  # Makes JSON of any term, as "Values" of the clients' README has it. Appends to a binary, and throws :too_large as soon as
  # that is known to become longer than `max` bytes. Pure but for the terms' own code (String.Chars, Jason.Encoder), whose
  # exceptions become "[unreadable: …]"; any process.
  @moduledoc false

  alias RunRecorder.Text

  # The event is 1 deep and the daemon takes 64.
  @max_depth 60

  @doc "`json` followed by the JSON of `term`, which is nested `depth` deep."
  def value(json, term, max, depth \\ 1)
  def value(json, text, max, _depth) when is_binary(text), do: text(json, text, max)
  def value(json, nil, _max, _depth), do: <<json::binary, "null">>
  def value(json, true, _max, _depth), do: <<json::binary, "true">>
  def value(json, false, _max, _depth), do: <<json::binary, "false">>
  def value(json, atom, max, _depth) when is_atom(atom), do: text(json, Text.atom(atom), max)
  def value(json, integer, max, _depth) when is_integer(integer), do: integer(json, integer, max)
  def value(json, float, _max, _depth) when is_float(float), do: <<json::binary, Float.to_string(float)::binary>>
  def value(json, %_{} = struct, max, depth), do: value(json, plain(struct), max, depth)

  def value(json, container, max, depth)
      when depth > @max_depth and (is_map(container) or is_list(container) or is_tuple(container)) do
    text(json, "[too deep]", max)
  end

  def value(json, map, max, depth) when is_map(map), do: object(json, map, max, depth)

  def value(json, list, max, depth) when is_list(list) do
    if keyword?(list), do: object(json, list, max, depth), else: list(json, list, max, depth)
  end

  def value(json, tuple, max, depth) when is_tuple(tuple) do
    no_longer(2 * tuple_size(tuple), max)
    list(json, Tuple.to_list(tuple), max, depth)
  end

  def value(json, other, max, _depth), do: text(json, readable(fn -> Text.inspected(other) end), max)

  @doc "`json` followed by the text, in quotes."
  def text(json, text, max) do
    no_longer(byte_size(json) + byte_size(text), max)

    case plain_bytes(text, 0) do
      all when all == byte_size(text) -> <<json::binary, ?", text::binary, ?">>
      some -> escape(text, some, <<json::binary, ?">>)
    end
  end

  @doc "Whether the number is one that the daemon takes as a number."
  def finite?(number), do: Text.number?(number)

  @doc "Whether the list is a keyword list, which becomes an object."
  def keyword?([{key, _value} | _] = list) when is_atom(key), do: Keyword.keyword?(list)
  def keyword?(_list), do: false

  @doc "`json` followed by an object of the pairs; of keys that become the same the later counts."
  def object(json, pairs, max, depth) do
    if is_map(pairs), do: no_longer(5 * map_size(pairs), max)

    case named(pairs) do
      [] -> <<json::binary, "{}">>
      [first | rest] -> rest |> members(member(<<json::binary, ?{>>, first, max, depth), max, depth)
    end
  end

  defp members([], json, _max, _depth), do: <<json::binary, ?}>>

  defp members([next | rest], json, max, depth) do
    members(rest, member(<<json::binary, ?,>>, next, max, depth), max, depth)
  end

  defp member(json, {key, value}, max, depth) do
    json = text(json, key, max)
    value(<<json::binary, ?:>>, value, max, depth + 1)
  end

  # Keys as texts. Only where each is a text that stays as it is, or an atom, can no two become the same.
  defp named(map) when is_map(map) do
    pairs = :maps.to_list(map)

    case kind_of_keys(pairs) do
      :atoms -> for {key, value} <- pairs, do: {Text.atom(key), value}
      :texts -> pairs
      :mixed -> later_counts(pairs)
    end
  end

  defp named(keywords), do: later_counts(keywords)

  defp kind_of_keys([{key, _value} | rest]) when is_atom(key), do: if(atoms?(rest), do: :atoms, else: :mixed)
  defp kind_of_keys(pairs), do: if(texts?(pairs), do: :texts, else: :mixed)

  defp atoms?([{key, _value} | rest]), do: is_atom(key) and atoms?(rest)
  defp atoms?([]), do: true

  defp texts?([{key, _value} | rest]), do: is_binary(key) and Text.clean?(key) and texts?(rest)
  defp texts?([]), do: true

  defp later_counts(pairs) do
    pairs
    |> Enum.map(fn {key, value} -> {key_text(key), value} end)
    |> Enum.reverse()
    |> Enum.uniq_by(fn {key, _value} -> key end)
    |> Enum.reverse()
  end

  @doc "A key as text."
  def key_text(key) when is_binary(key), do: Text.scrub(key)
  def key_text(key), do: readable(fn -> key |> Text.of() |> Text.scrub() end)

  defp list(json, [], _max, _depth), do: <<json::binary, "[]">>

  defp list(json, [first | rest], max, depth) do
    elements(rest, value(<<json::binary, ?[>>, first, max, depth + 1), max, depth)
  end

  defp elements([], json, _max, _depth), do: <<json::binary, ?]>>

  defp elements([next | rest], json, max, depth) do
    no_longer(byte_size(json), max)
    elements(rest, value(<<json::binary, ?,>>, next, max, depth + 1), max, depth)
  end

  # The tail of an improper list.
  defp elements(last, json, max, depth), do: elements([last], json, max, depth)

  defp integer(json, integer, max) do
    if Text.number?(integer),
      do: <<json::binary, Integer.to_string(integer)::binary>>,
      else: text(json, Text.integer(integer), max)
  end

  defp no_longer(bytes, max), do: if(bytes > max, do: throw(:too_large))

  # What a struct's own code makes of it, as terms that are no structs at the top.
  defp plain(struct) do
    readable(fn ->
      case convert(struct) do
        text when is_binary(text) -> Text.characters(text, 1_000)
        other -> other
      end
    end)
  end

  defp convert(%module{} = time) when module in [DateTime, NaiveDateTime, Date, Time],
    do: time |> Text.bounded() |> module.to_iso8601()

  defp convert(%MapSet{} = set), do: MapSet.to_list(set)

  defp convert(%{__exception__: true, __struct__: module} = e),
    do: %{kind: Text.atom(module), message: Text.message(e)}

  defp convert(%module{} = struct) when module in [Range, Regex], do: Text.inspected(struct)

  defp convert(%module{} = struct) do
    cond do
      Text.texts?(module) -> Text.of(struct)
      encoder = json_encoder(struct) -> struct |> Text.bounded(:infinity) |> encoder.encode!() |> encoder.decode!()
      true -> public_fields(struct)
    end
  end

  # Where a struct says which of its fields are public, that is what its users expect.
  defp json_encoder(struct) do
    Enum.find([Jason, JSON], fn library ->
      protocol = Module.concat(library, Encoder)

      Code.ensure_loaded?(library) and function_exported?(protocol, :impl_for, 1) and
        protocol.impl_for(struct) not in [nil, Module.concat(protocol, Any)]
    end)
  end

  defp public_fields(%module{} = struct) do
    hidden = if function_exported?(module, :__schema__, 1), do: module.__schema__(:redact_fields), else: []

    for {key, value} <- Map.from_struct(struct), key not in hidden, shown?(key, value), into: %{}, do: {key, value}
  end

  # What Ecto keeps for itself, and what it did not load.
  defp shown?(_key, %{__struct__: Ecto.Association.NotLoaded}), do: false
  defp shown?(key, _value), do: not String.starts_with?(Atom.to_string(key), "__")

  @doc "What `read` answers, or what stands for it where it raises."
  def readable(read) do
    read.()
  rescue
    exception -> "[unreadable: #{Text.atom(exception.__struct__)}]"
  catch
    kind, _reason -> "[unreadable: #{kind}]"
  end

  defguardp is_plain(byte) when byte >= 0x20 and byte < 0x80 and byte != ?" and byte != ?\\

  # How many bytes at the beginning can stand in JSON as they are.
  defp plain_bytes(<<byte, rest::binary>>, count) when is_plain(byte), do: plain_bytes(rest, count + 1)

  defp plain_bytes(<<character::utf8, rest::binary>>, count) when character >= 0x80 do
    plain_bytes(rest, count + utf8_bytes(character))
  end

  defp plain_bytes(_rest, count), do: count

  defp utf8_bytes(character) when character < 0x800, do: 2
  defp utf8_bytes(character) when character < 0x10000, do: 3
  defp utf8_bytes(_character), do: 4

  defp escape(text, plain, json) do
    case text do
      <<chunk::binary-size(plain), byte, rest::binary>> ->
        escape(rest, plain_bytes(rest, 0), <<json::binary, chunk::binary, escaped(byte)::binary>>)

      chunk ->
        <<json::binary, chunk::binary, ?">>
    end
  end

  defp escaped(?"), do: "\\\""
  defp escaped(?\\), do: "\\\\"
  defp escaped(?\n), do: "\\n"
  defp escaped(?\t), do: "\\t"
  defp escaped(?\r), do: "\\r"
  defp escaped(byte) when byte in 1..0x1F, do: "\\u00" <> Base.encode16(<<byte>>, case: :lower)
  # NUL, and what is no part of a character.
  defp escaped(_byte), do: "\uFFFD"
end
