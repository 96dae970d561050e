defmodule RunRecorder.Connection do
  # The process that sends what is in the buffer and settles it by the daemon's answers. Callers wake it and never wait for it;
  # it never waits either: the socket's own queue holds what is on its way, which is bounded.
  @moduledoc false

  use GenServer
  require Logger

  alias RunRecorder.{Answers, Buffer, Event, Unsent, Words}

  @connect_timeout 5_000
  @first_pause 100
  @longest_pause 5_000
  @longest_forbidden_pause 30_000
  @answer_timeout 30_000
  @tick 1_000
  # After a batch callers need not wake it for so long; the next is larger for it.
  @linger 2
  @max_sent_lines 4_096
  @max_sent_bytes 1_048_576
  # More than can be on its way, so that sending never waits.
  @socket_queue 8 * @max_sent_bytes
  @worth_resending ["spool_full", "unavailable"]

  defstruct [
    :buffer,
    :socket,
    # Of this connection: the lines written; those that are not settled as {line, key, bytes}, how many and their bytes.
    lines: 0,
    sent: :queue.new(),
    sent_lines: 0,
    sent_bytes: 0,
    # Refusals of lines that no acknowledgement has covered yet: line => {code, message}.
    refusals: %{},
    received: "",
    answered_at: 0,
    # A pause holds everything back. A full spool holds details back: one is tried after each pause.
    pause: @first_pause,
    paused?: false,
    full?: false,
    try_detail?: false,
    # The files left from earlier, and of the one that is being sent how many lines are not settled.
    files: [],
    file_lines: 0,
    connecting: nil,
    ticking?: false,
    lingering?: false,
    trouble: nil,
    dropping?: false
  ]

  def start_link(buffer), do: GenServer.start_link(__MODULE__, buffer, name: __MODULE__)

  @doc "Tells it that there is something to send. Any process; one message at most is on its way."
  def wake(buffer), do: tell(buffer, :awake, :wake)

  @doc "Has it try again now, rather than after its pause."
  def hurry(buffer), do: tell(buffer, :hurry, :hurry)

  defp tell(buffer, flag, message) do
    with false <- Buffer.raise_flag(buffer, flag), pid when is_pid(pid) <- Process.whereis(__MODULE__) do
      send(pid, message)
    end

    :ok
  end

  @impl true
  def init(buffer) do
    Process.flag(:trap_exit, true)
    Process.flag(:message_queue_data, :off_heap)
    Buffer.put_all_back(buffer)
    Buffer.forget_earlier(buffer)
    Buffer.put(buffer, :awake, 0)
    Buffer.put(buffer, :hurry, 0)
    send(self(), :connect)
    {:ok, %__MODULE__{buffer: buffer}}
  end

  # Whatever goes wrong, the lines are in the buffer; a new connection begins with all of them.
  @impl true
  def handle_info(message, state) do
    {:noreply, message |> handle(state) |> say_dropped()}
  rescue
    exception ->
      Logger.error("run_recorder: " <> Exception.format(:error, exception, __STACKTRACE__))
      {:noreply, lose(state, "an error of its own")}
  end

  @impl true
  def terminate(_reason, state), do: if(state.socket, do: :gen_tcp.close(state.socket))

  defp handle(:wake, state), do: send_some(state)
  defp handle(:linger, state), do: send_some(%{state | lingering?: false})
  defp handle(:connect, %{socket: nil} = state), do: connect(state)
  defp handle(:resume, state), do: send_some(%{state | paused?: false, try_detail?: state.full?})
  defp handle(:tick, state), do: tick(%{state | ticking?: false})
  defp handle({:tcp, socket, bytes}, %{socket: socket} = state), do: receive_answers(state, bytes)
  defp handle({:tcp_closed, socket}, %{socket: socket} = state), do: lose(state, "the connection was closed")
  defp handle({:tcp_error, socket, why}, %{socket: socket} = state), do: lose(state, why)

  defp handle(:hurry, state) do
    Buffer.put(state.buffer, :hurry, 0)
    if state.socket, do: send_some(%{state | paused?: false, try_detail?: state.full?}), else: connect(state)
  end

  # Of a connection before this one.
  defp handle(_other, state), do: state

  ## The connection

  defp connect(state) do
    # Without lingering: what is still on its way to a daemon that hangs would keep the node from ending.
    queue = [high_watermark: @socket_queue, low_watermark: @max_sent_bytes, linger: {true, 0}]
    options = [:binary, active: true, packet: :raw] ++ queue
    result = :gen_tcp.connect({:local, state.buffer.settings.socket}, 0, options, @connect_timeout)
    state = connected(result, state)
    Buffer.put(state.buffer, :tried, 1)
    state
  end

  defp connected({:ok, socket}, state) do
    state = %{state | socket: socket, lines: 0, received: "", paused?: false, answered_at: now()}
    send_some(next_file(%{state | files: Unsent.files(state.buffer.settings.socket)}))
  end

  defp connected({:error, why}, state), do: lose(state, why)

  # Everything that is not settled goes back into its place, and after a pause all is tried again.
  defp lose(state, why) do
    if state.socket, do: :gen_tcp.close(state.socket)
    Buffer.put_all_back(state.buffer)
    Buffer.forget_earlier(state.buffer)
    if state.connecting, do: Process.cancel_timer(state.connecting)

    tick_later(%{
      Words.away(state, why)
      | socket: nil,
        connecting: Process.send_after(self(), :connect, state.pause),
        sent: :queue.new(),
        sent_lines: 0,
        sent_bytes: 0,
        refusals: %{},
        files: [],
        file_lines: 0,
        full?: false,
        pause: longer(state)
    })
  end

  defp longer(%{trouble: :forbidden, pause: pause}), do: min(2 * pause, @longest_forbidden_pause)
  defp longer(%{pause: pause}), do: min(2 * pause, @longest_pause)

  ## What was left from earlier

  # One file at a time is in memory. Its lines come first, so their keys are below all others.
  defp next_file(%{files: []} = state), do: state

  defp next_file(%{files: [path | rest]} = state) do
    case Unsent.lines(path) do
      [] ->
        next_file(%{state | files: rest})

      lines ->
        first = -length(lines)

        lines
        |> Enum.with_index(first)
        |> Enum.each(fn {line, key} -> Buffer.insert_earlier(state.buffer, key, line) end)

        %{state | file_lines: -first}
    end
  end

  defp settled_earlier(%{file_lines: 1, files: [path | rest]} = state) do
    File.rm(path)
    next_file(%{state | file_lines: 0, files: rest})
  end

  defp settled_earlier(state), do: %{state | file_lines: state.file_lines - 1}

  ## Sending

  defp send_some(%{socket: nil} = state), do: state
  defp send_some(%{paused?: true} = state), do: state

  defp send_some(state) do
    case collect(state, []) do
      {[], state} -> if state.lingering?, do: state, else: sleep(state)
      {lines, state} -> written(:gen_tcp.send(state.socket, lines), linger(state))
    end
  end

  defp written(:ok, state), do: tick_later(state)
  defp written({:error, why}, state), do: lose(state, why)

  defp linger(%{lingering?: true} = state), do: state

  defp linger(state) do
    Process.send_after(self(), :linger, @linger)
    %{state | lingering?: true}
  end

  # From here on a caller wakes it; what came in before that is not forgotten. Where nothing more may be on its way the next
  # answer wakes it, and no caller needs to.
  defp sleep(state) do
    if can_send?(state) do
      Buffer.put(state.buffer, :awake, 0)
      if waiting?(state), do: wake(state.buffer)
    end

    state
  end

  defp waiting?(%{buffer: buffer} = state) do
    Enum.any?(classes(state), fn class -> :ets.first(Map.fetch!(buffer, class)) != :"$end_of_table" end)
  end

  defp can_send?(state) do
    not state.paused? and state.sent_lines < @max_sent_lines and state.sent_bytes < @max_sent_bytes
  end

  defp collect(state, lines) do
    case can_send?(state) && Buffer.check_out(state.buffer, classes(state)) do
      {key, line, class, _bytes, _reduced?} ->
        state = sent(state, key, line)
        state = if class == :detail, do: %{state | try_detail?: false}, else: state
        collect(state, [lines, line, ?\n])

      _none ->
        {lines, state}
    end
  end

  defp sent(state, key, line) do
    bytes = byte_size(line)

    %{
      state
      | lines: state.lines + 1,
        sent: :queue.in({state.lines + 1, key, bytes}, state.sent),
        sent_lines: state.sent_lines + 1,
        sent_bytes: state.sent_bytes + bytes,
        answered_at: if(state.sent_lines == 0, do: now(), else: state.answered_at)
    }
  end

  # What was left from earlier goes before all else; while the spool is full what is decisive goes before details.
  defp classes(%{file_lines: lines}) when lines > 0, do: [:earlier]
  defp classes(%{full?: false}), do: [:lifecycle, :detail]
  defp classes(%{try_detail?: false}), do: [:lifecycle]

  defp classes(%{buffer: buffer}) do
    if :ets.first(buffer.lifecycle) == :"$end_of_table", do: [:detail], else: [:lifecycle]
  end

  ## Answers

  defp receive_answers(state, bytes) do
    {answers, rest} = Answers.read(state.received <> bytes)
    state = Enum.reduce(answers, %{state | received: rest, answered_at: now()}, &answer/2)
    send_some(state)
  end

  defp answer(_answer, %{socket: nil} = state), do: state
  defp answer({:acked, line}, state), do: settle(state, line)

  defp answer({:error, 0, "forbidden", message}, state),
    do: lose(%{state | trouble: Words.forbidden(state, message)}, :said)

  defp answer({:error, 0, _code, message}, state), do: lose(state, message)

  defp answer({:error, line, code, message}, state) do
    %{state | refusals: Map.put(state.refusals, line, {code, message})}
  end

  defp settle(state, acked) do
    case :queue.peek(state.sent) do
      {:value, {line, key, bytes}} when line <= acked ->
        {refusal, refusals} = Map.pop(state.refusals, line)
        state |> no_longer_sent(bytes) |> Map.put(:refusals, refusals) |> outcome(key, refusal) |> settle(acked)

      _later ->
        state
    end
  end

  defp no_longer_sent(state, bytes) do
    %{
      state
      | sent: :queue.drop(state.sent),
        sent_lines: state.sent_lines - 1,
        sent_bytes: state.sent_bytes - bytes
    }
  end

  defp outcome(state, key, nil) do
    entry = Buffer.take_sent(state.buffer, key)
    state |> settled(entry, :acknowledged) |> accepted(entry)
  end

  defp outcome(state, key, {code, message}) when code in @worth_resending do
    with [entry] <- :ets.lookup(state.buffer.sent, key), do: Buffer.put_back(state.buffer, entry)
    state = Words.later(state, message)
    pause(%{state | full?: state.full? or code == "spool_full"})
  end

  defp outcome(state, key, {code, message}) do
    case :ets.lookup(state.buffer.sent, key) do
      [{_key, line, _class, _bytes, false} = entry] ->
        reduce(state, entry, Event.reduce(line, max_bytes(state)), message)

      [_reduced] ->
        refuse(state, key, "#{code}: #{message}")

      [] ->
        state
    end
  end

  defp reduce(state, {key, _line, _class, _bytes, _reduced?}, :error, message), do: refuse(state, key, message)

  defp reduce(state, entry, line, _message) do
    Buffer.put_back(state.buffer, Buffer.reduced(state.buffer, entry, line))
    state
  end

  defp refuse(state, key, message) do
    Logger.warning("run_recorder: the daemon refused an event: #{message}")
    settled(state, Buffer.take_sent(state.buffer, key), :refused)
  end

  defp settled(state, nil, _outcome), do: state

  defp settled(state, entry, outcome) do
    Buffer.settle(state.buffer, entry, outcome)
    if elem(entry, 2) == :earlier, do: settled_earlier(state), else: state
  end

  # While the spool is full only an accepted detail shows that there is room again.
  defp accepted(%{full?: true} = state, {_key, _line, :lifecycle, _bytes, _reduced?}), do: state
  defp accepted(state, _entry), do: Words.back(%{state | full?: false, pause: @first_pause})

  defp pause(%{paused?: true} = state), do: state

  defp pause(state) do
    Process.send_after(self(), :resume, state.pause)
    %{state | paused?: true, pause: longer(state)}
  end

  # While events are dropped it looks again, also where nothing comes or goes.
  defp say_dropped(state) do
    state = Words.dropped(state)
    if state.dropping?, do: tick_later(state), else: state
  end

  ## Time

  defp tick(%{socket: nil} = state), do: tick_later(state)

  defp tick(state) do
    cond do
      state.sent_lines == 0 -> if state.dropping?, do: tick_later(state), else: state
      now() - state.answered_at > @answer_timeout -> lose(state, "no answer for #{div(@answer_timeout, 1000)} s")
      true -> tick_later(state)
    end
  end

  defp tick_later(%{ticking?: true} = state), do: state

  defp tick_later(state) do
    Process.send_after(self(), :tick, @tick)
    %{state | ticking?: true}
  end

  defp now, do: System.monotonic_time(:millisecond)
  defp max_bytes(state), do: state.buffer.max_event_bytes
end
