defmodule RunRecorder.Text do
  # Makes any term a text that the daemon takes: valid UTF-8 without NUL, cut where there is a limit. Pure; any process.
  @moduledoc false

  @replacement "\uFFFD"
  @object_characters 1_000

  @doc "The text of `term`, of at most `limit` bytes, cut at a character's boundary."
  def limited(term, limit), do: term |> of() |> cut(limit) |> scrub() |> cut(limit)

  @doc "The text of any term. Raises where the term's own code does."
  def of(text) when is_binary(text), do: text
  def of(atom) when is_atom(atom), do: atom(atom)
  def of(number) when is_number(number), do: to_string(number)
  def of(%module{} = struct), do: if(texts?(module), do: to_string(struct), else: inspected(struct))
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
    term |> inspect(limit: 50, printable_limit: @object_characters) |> characters(@object_characters)
  end

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
