defmodule RunRecorder.Words do
  # What the connection tells the log: once when something begins, and once when it is over, never once an event. Each takes the
  # connection's state and answers it with what was said.
  @moduledoc false

  require Logger

  alias RunRecorder.Buffer

  def away(%{trouble: nil} = state, why) do
    Logger.warning(
      "run_recorder: the daemon is away (#{state.buffer.settings.socket}: #{reason(why)}); events are kept in memory"
    )

    %{state | trouble: :away}
  end

  def away(state, _why), do: state

  def later(%{trouble: nil} = state, message) do
    Logger.warning("run_recorder: the daemon takes no events now (#{message}); they are kept in memory")
    %{state | trouble: :later}
  end

  def later(state, _message), do: state

  def forbidden(%{trouble: :forbidden}, _message), do: :forbidden

  def forbidden(state, message) do
    Logger.error(
      "run_recorder: this user is forbidden to send events (#{state.buffer.settings.socket}: #{message}); " <>
        "events are kept in memory"
    )

    :forbidden
  end

  def back(%{trouble: nil} = state), do: state

  def back(state) do
    Logger.info("run_recorder: the daemon takes events again (#{state.buffer.settings.socket})")
    %{state | trouble: nil}
  end

  def dropped(state) do
    full? = Buffer.get(state.buffer, :bytes) * 4 > state.buffer.settings.buffer_bytes * 3

    cond do
      not state.dropping? and Buffer.unsaid(state.buffer) > 0 ->
        Logger.warning("run_recorder: the buffer is full: the oldest events are dropped, details first")
        %{state | dropping?: true}

      state.dropping? and not full? ->
        dropped = Buffer.take_unsaid(state.buffer)
        Logger.warning("run_recorder: the buffer has room again: #{dropped} events were dropped")
        %{state | dropping?: false}

      true ->
        state
    end
  end

  @doc "At the end: what was dropped of which nothing was said."
  def dropped_at_end(buffer) do
    dropped = Buffer.take_unsaid(buffer)
    if dropped > 0, do: Logger.warning("run_recorder: #{dropped} events were dropped, because the buffer was full")
  end

  defp reason(why) when is_binary(why), do: why

  defp reason(:closed), do: "the connection was closed"

  defp reason(why) do
    case :inet.format_error(why) do
      ~c"unknown POSIX error" ++ _ -> inspect(why)
      words -> to_string(words)
    end
  end
end
