defmodule RunRecorder.Settings do
  # What the application's environment and the process's say, read once when the application starts.
  @moduledoc false

  require Logger

  alias RunRecorder.{Encoder, Text}

  defstruct [:socket, :buffer_bytes, :max_event_bytes, :flush_timeout, :disabled]

  @defaults [buffer_bytes: 16 * 1_048_576, max_event_bytes: 1_048_576, flush_timeout: 2_000]

  def read do
    numbers = for {name, default} <- @defaults, do: {name, number(name, default)}

    disabled =
      Application.get_env(:run_recorder, :disabled, false) == true or System.get_env("RUN_RECORDER_DISABLED") == "1"

    struct!(%__MODULE__{socket: socket(), disabled: disabled}, numbers)
  end

  defp number(name, default) do
    case Application.get_env(:run_recorder, name, default) do
      number when is_integer(number) and number >= 0 ->
        number

      other ->
        shown = Encoder.readable(fn -> Text.inspected(other) end)
        Logger.warning("run_recorder: #{name} is #{shown}: must be a whole number; #{default} is used")
        default
    end
  end

  defp socket do
    given = Application.get_env(:run_recorder, :socket) || System.get_env("RUN_RECORDER_SOCKET_PATH")
    if is_binary(given) and given != "", do: given, else: usual_socket(System.get_env("XDG_RUNTIME_DIR"))
  end

  defp usual_socket(folder) do
    own = if folder in [nil, ""], do: nil, else: Path.join(folder, "run-recorder/events.sock")
    if own && File.exists?(own), do: own, else: "/run/run-recorder/events.sock"
  end
end
