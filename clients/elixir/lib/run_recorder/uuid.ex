defmodule RunRecorder.UUID do
  # Ids of runs that are given none: in the order of time, as RFC 9562 has version 7. Any process.
  @moduledoc false

  def v7 do
    <<random_a::12, random_b::62, _rest::6>> = :crypto.strong_rand_bytes(10)
    uuid = <<System.os_time(:millisecond)::48, 7::4, random_a::12, 2::2, random_b::62>>

    <<a::binary-size(8), b::binary-size(4), c::binary-size(4), d::binary-size(4), e::binary>> =
      Base.encode16(uuid, case: :lower)

    Enum.join([a, b, c, d, e], "-")
  end
end
