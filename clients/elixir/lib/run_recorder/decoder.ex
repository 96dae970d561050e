defmodule RunRecorder.Decoder do
  # Reads JSON: the daemon's answers, and lines of our own that are to be reduced. Accepts what is well-formed and little else;
  # of keys that are there twice the later counts. Pure; any process.
  @moduledoc false

  @max_depth 70

  @doc "The term, or :error."
  def decode(json) do
    case json |> space() |> value(0) do
      {term, rest} -> if space(rest) == "", do: {:ok, term}, else: :error
    end
  catch
    :malformed -> :error
  end

  defp value(_json, depth) when depth > @max_depth, do: throw(:malformed)
  defp value(<<?", rest::binary>>, _depth), do: text(rest, "")
  defp value(<<?{, rest::binary>>, depth), do: object(space(rest), %{}, depth + 1)
  defp value(<<?[, rest::binary>>, depth), do: list(space(rest), [], depth + 1)
  defp value(<<"true", rest::binary>>, _depth), do: {true, rest}
  defp value(<<"false", rest::binary>>, _depth), do: {false, rest}
  defp value(<<"null", rest::binary>>, _depth), do: {nil, rest}
  defp value(json, _depth), do: number(json)

  defp object(<<?}, rest::binary>>, done, _depth), do: {done, rest}

  defp object(<<?", rest::binary>>, done, depth) do
    {key, rest} = text(rest, "")
    {term, rest} = rest |> space() |> expect(?:) |> space() |> value(depth)
    done = Map.put(done, key, term)

    case space(rest) do
      <<?,, rest::binary>> -> object(space(rest), done, depth)
      <<?}, rest::binary>> -> {done, rest}
      _other -> throw(:malformed)
    end
  end

  defp object(_json, _done, _depth), do: throw(:malformed)

  defp list(<<?], rest::binary>>, done, _depth), do: {Enum.reverse(done), rest}

  defp list(json, done, depth) do
    {term, rest} = value(json, depth)

    case space(rest) do
      <<?,, rest::binary>> -> list(space(rest), [term | done], depth)
      <<?], rest::binary>> -> {Enum.reverse([term | done]), rest}
      _other -> throw(:malformed)
    end
  end

  defp text(json, done) do
    plain = plain_bytes(json, 0)

    case json do
      <<chunk::binary-size(plain), ?", rest::binary>> -> {<<done::binary, chunk::binary>>, rest}
      <<chunk::binary-size(plain), ?\\, rest::binary>> -> escape(rest, <<done::binary, chunk::binary>>)
      _other -> throw(:malformed)
    end
  end

  defp plain_bytes(<<byte, rest::binary>>, count) when byte != ?" and byte != ?\\, do: plain_bytes(rest, count + 1)
  defp plain_bytes(_rest, count), do: count

  defp escape(<<?u, digits::binary-size(4), rest::binary>>, done), do: unicode(hexadecimal(digits), rest, done)

  for {letter, character} <- [{?", ?"}, {?\\, ?\\}, {?/, ?/}, {?b, ?\b}, {?f, ?\f}, {?n, ?\n}, {?r, ?\r}, {?t, ?\t}] do
    defp escape(<<unquote(letter), rest::binary>>, done), do: text(rest, <<done::binary, unquote(character)>>)
  end

  defp escape(_json, _done), do: throw(:malformed)

  defp unicode(high, <<"\\u", digits::binary-size(4), rest::binary>>, done) when high in 0xD800..0xDBFF do
    case hexadecimal(digits) do
      low when low in 0xDC00..0xDFFF ->
        text(rest, <<done::binary, 0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)::utf8>>)

      other ->
        unicode(other, rest, <<done::binary, 0xFFFD::utf8>>)
    end
  end

  defp unicode(lone, rest, done) when lone in 0xD800..0xDFFF, do: text(rest, <<done::binary, 0xFFFD::utf8>>)
  defp unicode(character, rest, done), do: text(rest, <<done::binary, character::utf8>>)

  defp hexadecimal(digits) do
    case Integer.parse(digits, 16) do
      {number, ""} when number >= 0 -> number
      _other -> throw(:malformed)
    end
  end

  defp number(json) do
    case Regex.run(~r/\A-?\d+(\.\d+)?([eE][+-]?\d+)?/, json) do
      nil -> throw(:malformed)
      [text] -> {String.to_integer(text), after_number(json, text)}
      [text | _parts] -> {float(text), after_number(json, text)}
    end
  end

  defp after_number(json, text), do: binary_part(json, byte_size(text), byte_size(json) - byte_size(text))

  # What no double holds stays a text.
  defp float(text) do
    case Float.parse(text) do
      {float, ""} -> float
      _other -> text
    end
  rescue
    _out_of_range -> text
  end

  defp expect(<<byte, rest::binary>>, byte), do: rest
  defp expect(_json, _byte), do: throw(:malformed)

  defp space(<<byte, rest::binary>>) when byte in [?\s, ?\t, ?\n, ?\r], do: space(rest)
  defp space(json), do: json
end
