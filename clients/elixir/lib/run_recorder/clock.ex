defmodule RunRecorder.Clock do
  # Times as the protocol has them. Each event has one, so this takes no way round. Pure.
  @moduledoc false

  # From the year 0 to 1970.
  @epoch 62_167_219_200

  @doc "Microseconds since 1970 as RFC 3339, in UTC with six digits and Z."
  def rfc3339(microseconds) do
    seconds = Integer.floor_div(microseconds, 1_000_000)
    fraction = microseconds - seconds * 1_000_000
    {{year, month, day}, {hour, minute, second}} = :calendar.gregorian_seconds_to_datetime(seconds + @epoch)

    # Bytes one by one: a binary that begins with another is made to grow, which costs more than it holds.
    <<digit(year, 1000), digit(year, 100), digit(year, 10), digit(year, 1), ?-, digit(month, 10), digit(month, 1), ?-,
      digit(day, 10), digit(day, 1), ?T, digit(hour, 10), digit(hour, 1), ?:, digit(minute, 10), digit(minute, 1), ?:,
      digit(second, 10), digit(second, 1), ?., digit(fraction, 100_000), digit(fraction, 10_000),
      digit(fraction, 1_000), digit(fraction, 100), digit(fraction, 10), digit(fraction, 1), ?Z>>
  end

  defp digit(number, unit), do: ?0 + rem(div(number, unit), 10)
end
