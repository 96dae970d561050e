defmodule RunRecorder.Client do
  # What every call goes through: the buffer that is open, or nothing where the application does not run. Any process. No
  # function here raises, whatever it is given.
  @moduledoc false

  alias RunRecorder.{Buffer, Connection, Encoder, Event, Fields, Text, Unsent, Watch, Words}

  require Logger

  @key __MODULE__
  @poll 2

  @doc "Makes that buffer the one that calls use."
  def open(buffer) do
    Buffer.put(buffer, :open, 1)
    :persistent_term.put(@key, buffer)
  end

  @doc "Runs `use` with the open buffer; `otherwise` where there is none, or where something goes wrong."
  def with_open(otherwise, use) do
    case :persistent_term.get(@key, nil) do
      nil -> otherwise
      buffer -> if Buffer.open?(buffer), do: use.(buffer), else: otherwise
    end
  rescue
    exception -> failed(exception.__struct__, __STACKTRACE__, otherwise)
  catch
    kind, _reason -> failed(kind, __STACKTRACE__, otherwise)
  end

  # Tables that went away meanwhile are the application's end. Anything else is a mistake of ours, and it is said where.
  defp failed(what, stacktrace, otherwise) do
    unless tables_gone?() do
      where = Encoder.readable(fn -> stacktrace |> Enum.take(3) |> Text.stacktrace() |> Text.characters(1_000) end)
      Logger.debug("run_recorder: a mistake of its own, #{Text.atom(what)} at\n#{where}")
    end

    otherwise
  end

  defp tables_gone? do
    buffer = :persistent_term.get(@key, nil)
    buffer == nil or :ets.info(buffer.sent, :size) == :undefined
  end

  @doc "Calls do nothing from now on, and nothing is counted: the client is disabled."
  def forget, do: :persistent_term.erase(@key)

  @doc "Takes an event in. Returns :ok always."
  def emit(run_id, type, fields) do
    with :closed <- with_open(:closed, &emit(&1, run_id, type, fields)), do: too_late()
  end

  defp emit(buffer, run_id, type, fields) do
    key = Buffer.next(buffer)

    case build(buffer, run_id, type, fields, buffer.id_prefix <> Integer.to_string(key)) do
      {class, line, truncated?} when is_binary(line) -> take_in(buffer, key, class, line, truncated?)
      _not_sendable -> refuse(buffer)
    end
  end

  defp build(buffer, run_id, type, fields, id) do
    Event.build(buffer, run_id, type, fields, id)
  rescue
    exception -> not_made(type, exception.__struct__)
  catch
    kind, _reason -> not_made(type, kind)
  end

  defp not_made(type, what) do
    type = Encoder.readable(fn -> Fields.type(type) end)
    Logger.debug("run_recorder: an event of the type #{type} could not be made and is refused: #{Text.atom(what)}")
  end

  # After the end; where there never was a client nothing is counted.
  defp too_late do
    buffer = :persistent_term.get(@key, nil)

    if buffer && not Buffer.open?(buffer) do
      Buffer.too_late(buffer)

      unless Buffer.raise_flag(buffer, :closed) do
        Logger.warning("run_recorder: the client is closed; events are dropped from now on")
      end
    end

    :ok
  rescue
    _broken_log -> :ok
  end

  defp take_in(buffer, key, class, line, truncated?) do
    if truncated?, do: Buffer.add(buffer, :truncated)
    Buffer.insert(buffer, key, class, line)
    Connection.wake(buffer)
  end

  defp refuse(buffer) do
    Buffer.add(buffer, :emitted)
    Buffer.add(buffer, :refused)
    :ok
  end

  @doc "Waits until everything so far is settled, at most so long, and says whether it is."
  def flush(timeout) do
    with_open(true, fn buffer ->
      last = Buffer.get(buffer, :sequence)
      unless done?(buffer, last), do: Connection.hurry(buffer)
      wait(fn -> done?(buffer, last) end, deadline(timeout))
    end)
  end

  # Before the first attempt to connect it is not known what is left from earlier.
  defp done?(buffer, last), do: Buffer.get(buffer, :tried) == 1 and Buffer.settled?(buffer, last)

  defp deadline(timeout) when is_integer(timeout), do: System.monotonic_time(:millisecond) + max(timeout, 0)
  defp deadline(_no_number), do: deadline(2_000)

  defp wait(done?, deadline) do
    cond do
      done?.() -> true
      System.monotonic_time(:millisecond) >= deadline -> false
      true -> pause(done?, deadline)
    end
  end

  defp pause(done?, deadline) do
    receive do
    after
      @poll -> wait(done?, deadline)
    end
  end

  @doc "What was counted, also of a client that is closed."
  def stats do
    case :persistent_term.get(@key, nil) do
      nil -> Map.new(~w(emitted acknowledged refused dropped kept waiting truncated)a, &{&1, 0})
      buffer -> Buffer.stats(buffer)
    end
  end

  @doc "Ends: waits for what is not settled, at most so long, then writes the rest to a file. Events are dropped from then on."
  def close(timeout \\ nil) do
    with_open(:ok, fn buffer ->
      Watch.say_all()
      wait_for_own(buffer, timeout || buffer.settings.flush_timeout)
      Buffer.put(buffer, :open, 0)
      stop_processes()
      Words.dropped_at_end(buffer)
      keep(buffer, Buffer.take_all(buffer))
    end)
  end

  defp wait_for_own(buffer, timeout) do
    own_settled? = fn -> Buffer.stats(buffer).waiting - Buffer.get(buffer, :earlier) <= 0 end
    unless own_settled?.(), do: Connection.hurry(buffer)
    wait(own_settled?, deadline(timeout))
  end

  # The supervisor, which owns the tables, stays.
  defp stop_processes do
    for process <- [Watch, Connection], do: Supervisor.terminate_child(RunRecorder.Supervisor, process)
  catch
    :exit, _reason -> :ok
  end

  defp keep(_buffer, []), do: :ok

  defp keep(buffer, entries) do
    {kept, dropped} = fitting(entries, Unsent.room())
    Enum.each(dropped, &Buffer.settle(buffer, &1, :dropped))

    written =
      if kept == [], do: {:error, "no room"}, else: Unsent.write(buffer.settings.socket, Enum.map(kept, &elem(&1, 1)))

    Enum.each(kept, &Buffer.settle(buffer, &1, if(match?({:ok, _path}, written), do: :kept, else: :dropped)))
    say_kept(length(kept), length(dropped), written)
  end

  # What does not fit goes as in a buffer that is full: the oldest details, then the oldest lifecycle events.
  defp fitting(entries, room) do
    newest_first = Enum.reverse(entries)
    {lifecycle, details} = Enum.split_with(newest_first, fn entry -> elem(entry, 2) == :lifecycle end)
    {kept, dropped, _room} = Enum.reduce(lifecycle ++ details, {[], [], room}, &fit/2)
    {Enum.sort(kept), dropped}
  end

  defp fit(entry, {kept, dropped, room}) do
    bytes = byte_size(elem(entry, 1)) + 1
    if bytes <= room, do: {[entry | kept], dropped, room - bytes}, else: {kept, [entry | dropped], 0}
  end

  defp say_kept(kept, dropped, {:ok, path}) do
    Logger.warning("run_recorder: #{kept} events could not be sent and are kept in #{path}")
    if dropped > 0, do: Logger.warning("run_recorder: there was no room for #{dropped} more, which are lost")
    :ok
  end

  defp say_kept(kept, dropped, {:error, why}) do
    Logger.error("run_recorder: #{kept + dropped} events could not be sent and are lost (#{why})")
  end
end
