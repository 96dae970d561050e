defmodule RunRecorder.Answers do
  # Reads what the daemon answers. Pure.
  @moduledoc false

  alias RunRecorder.Decoder

  @doc "{answers, rest}: {:acked, line} or {:error, line, code, message}, in order, and the beginning of the next."
  def read(bytes) do
    case :binary.split(bytes, "\n", [:global]) do
      [rest] -> {[], rest}
      parts -> {parts |> Enum.drop(-1) |> Enum.flat_map(&answer/1), List.last(parts)}
    end
  end

  defp answer(<<"{\"acked\":", number::binary>> = line) do
    case Integer.parse(number) do
      {acked, "}"} -> [{:acked, acked}]
      _other -> decoded(line)
    end
  end

  defp answer(line), do: decoded(line)

  defp decoded(line) do
    case Decoder.decode(line) do
      {:ok, %{"acked" => acked}} when is_integer(acked) -> [{:acked, acked}]
      {:ok, %{"error" => %{"line" => number, "code" => code} = error}} -> [{:error, number, code, error["message"]}]
      # What a later daemon may add.
      _other -> []
    end
  end
end
