defmodule RunRecorder.Text do
  # Makes any term a text that the daemon takes: valid UTF-8 without NUL, cut where there is a limit. Pure; any process.
  @moduledoc false

  @replacement "\uFFFD"
  @object_characters 1_000
  # A double holds no more than 308 digits; of integers beyond the first are enough.
  @max_digits 300
  @integer_limit Integer.pow(10, @max_digits)
  # To write a number in decimal takes the square of its length; about 30,000 digits.
  @max_readable_bytes 12_500
  @digits_in_byte 8 * :math.log10(2)
  # Of a list or map in a message no more is shown.
  @shown 100

  @doc "The text of `term`, of at most `limit` bytes, cut at a character's boundary."
  def limited(term, limit), do: term |> of() |> cut(limit) |> scrub() |> cut(limit)

  @doc "The text of any term. Raises where the term's own code does."
  def of(text) when is_binary(text), do: text
  def of(atom) when is_atom(atom), do: atom(atom)
  def of(integer) when is_integer(integer), do: described(integer) || Integer.to_string(integer)
  def of(float) when is_float(float), do: Float.to_string(float)
  def of(%module{} = struct), do: if(texts?(module), do: struct |> bounded() |> to_string(), else: inspected(struct))
  def of(term), do: inspected(term)

  @doc "An atom's name; a module's without the prefix that only the compiler sees."
  def atom(atom) do
    case Atom.to_string(atom) do
      "Elixir." <> name -> name
      name -> name
    end
  end

  @doc "What people read in a shell, of bounded length."
  def inspected(term) do
    term
    |> inspect(limit: 50, printable_limit: @object_characters, inspect_fun: &inspect_bounded/2)
    |> characters(@object_characters)
  end

  defp inspect_bounded(integer, _options) when is_integer(integer) and abs(integer) >= @integer_limit do
    described(integer) || beginning(integer) <> "…"
  end

  defp inspect_bounded(term, options), do: Inspect.inspect(term, options)

  @doc "The message of an exception, whose code may write whatever is in it."
  def message(exception), do: exception |> bounded() |> Exception.message()

  @doc "The exception that an error is; some have the text of a term from the beginning."
  def normalized(error, stacktrace), do: Exception.normalize(:error, bounded(error), bounded(stacktrace))

  @doc "Why a process ended."
  def exit_reason(reason), do: reason |> bounded() |> Exception.format_exit()

  @doc "A stack trace, whose entries may have arguments."
  def stacktrace(stacktrace), do: stacktrace |> bounded() |> Exception.format_stacktrace()

  ## Integers: none is written in decimal that is too large for it

  @doc "Whether the number has few enough digits to be one in JSON."
  def number?(number), do: is_float(number) or (is_integer(number) and abs(number) < @integer_limit)

  @doc "The text of an integer that is too large to be a number in JSON: its first digits, or its size."
  def integer(integer), do: described(integer) || beginning(integer)

  # nil where it can be written.
  defp described(integer) when abs(integer) < @integer_limit, do: nil

  defp described(integer) do
    bytes = integer_bytes(integer)
    if bytes > @max_readable_bytes, do: "[an integer of about #{8 * bytes} bits]"
  end

  defp integer_bytes(integer), do: integer |> abs() |> :binary.encode_unsigned() |> byte_size()

  # What is divided away are digits behind the first; there are never fewer than this.
  defp beginning(integer) do
    digits = trunc((integer_bytes(integer) - 1) * @digits_in_byte)
    first = div(integer, Integer.pow(10, max(digits - @max_digits, 0)))
    first |> Integer.to_string() |> binary_part(0, @max_digits)
  end

  @doc """
  The term with descriptions in place of the integers that cannot be written, for code of others that makes a text of it. Of
  each list and map only the first `shown` elements are looked at.
  """
  def bounded(term, shown \\ @shown) do
    if :erlang.external_size(term) > @max_readable_bytes, do: replace(term, shown), else: term
  end

  defp replace(integer, _shown) when is_integer(integer), do: described(integer) || integer
  defp replace(list, shown) when is_list(list), do: replace_each(list, shown, shown)
  defp replace(map, shown) when is_map(map), do: map |> :maps.to_list() |> replace_values(map, shown, shown)

  defp replace(tuple, shown) when is_tuple(tuple) do
    tuple |> Tuple.to_list() |> replace_each(shown, shown) |> List.to_tuple()
  end

  defp replace(other, _shown), do: other

  defp replace_each([first | rest], left, shown) when left > 0 do
    [replace(first, shown) | replace_each(rest, less(left), shown)]
  end

  # Also what is behind an improper list.
  defp replace_each(rest, _left, shown), do: if(is_list(rest), do: rest, else: replace(rest, shown))

  defp replace_values([{key, value} | rest], map, left, shown) when left > 0 do
    new_key = replace(key, shown)
    map = if new_key === key, do: map, else: Map.delete(map, key)
    replace_values(rest, Map.put(map, new_key, replace(value, shown)), less(left), shown)
  end

  defp replace_values(_rest, map, _left, _shown), do: map

  defp less(:infinity), do: :infinity
  defp less(left), do: left - 1

  ## Structs and characters

  @doc "Whether the structs of that module say what their text is."
  def texts?(module), do: String.Chars.impl_for(struct_of(module)) not in [nil, String.Chars.Any]

  # A protocol looks only at the module of a struct.
  defp struct_of(module), do: %{__struct__: module}

  @doc "The first `count` characters."
  def characters(text, count) do
    text |> cut(4 * count) |> scrub() |> prefix(count)
  end

  defp prefix(text, count) do
    binary_part(text, 0, prefix_bytes(text, count, 0))
  end

  defp prefix_bytes(<<character::utf8, rest::binary>>, count, bytes) when count > 0 do
    prefix_bytes(rest, count - 1, bytes + byte_size(<<character::utf8>>))
  end

  defp prefix_bytes(_rest, _count, bytes), do: bytes

  @doc "At most `limit` bytes, without the beginning of a character that would be cut in two."
  def cut(text, limit) when byte_size(text) <= limit, do: text
  def cut(text, limit), do: binary_part(text, 0, boundary(text, limit, 3))

  defp boundary(text, at, steps) when at > 0 and steps > 0 do
    case :binary.at(text, at) do
      byte when byte in 0x80..0xBF -> boundary(text, at - 1, steps - 1)
      _first -> at
    end
  end

  defp boundary(_text, at, _steps), do: at

  @doc "U+FFFD in place of NUL and of each byte that is no part of a character."
  def scrub(text) do
    if clean?(text), do: text, else: text |> scrub([]) |> IO.iodata_to_binary()
  end

  @doc "Whether scrubbing changes nothing."
  def clean?(<<byte, rest::binary>>) when byte in 1..0x7F, do: clean?(rest)
  def clean?(<<character::utf8, rest::binary>>) when character > 0, do: clean?(rest)
  def clean?(rest), do: rest == ""

  defp scrub(<<character::utf8, rest::binary>>, done) when character > 0, do: scrub(rest, [done, <<character::utf8>>])
  defp scrub(<<_byte, rest::binary>>, done), do: scrub(rest, [done, @replacement])
  defp scrub(<<>>, done), do: done
end
