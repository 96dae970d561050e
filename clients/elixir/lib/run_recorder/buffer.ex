defmodule RunRecorder.Buffer do
  # The lines that are not settled yet, in tables that callers write and the connection reads: no caller waits for a process,
  # and only one message at a time is sent to wake it. The supervisor owns the tables, so that they outlive the connection.
  #
  # An entry is {key, line, class, bytes, reduced?}; its key is its place. Whoever takes an entry out of a table counts it, so
  # each is counted once. What is sent and not settled is in `sent`; while an entry moves it is in two tables, never in none.
  @moduledoc false

  alias RunRecorder.Settings

  defstruct [:settings, :id_prefix, :worker_pid, :max_event_bytes, :counters, :earlier, :lifecycle, :detail, :sent]

  @tables [:earlier, :lifecycle, :detail, :sent]
  @counters ~w(sequence emitted acknowledged refused dropped kept truncated bytes awake hurry watch open earlier tried said closed)a
  @index @counters |> Enum.with_index(1) |> Map.new()

  # What an entry takes beside its line: the tuple, the node of the tree, the binary's header and reference. Measured.
  @entry_bytes 256

  @doc "An empty buffer, whose tables belong to the calling process."
  def new(%Settings{} = settings) do
    tables = for name <- @tables, do: {name, table(name)}
    buffer = struct!(%__MODULE__{settings: settings, counters: :atomics.new(length(@counters), [])}, tables)

    %{
      buffer
      | id_prefix: Base.encode16(:crypto.strong_rand_bytes(6), case: :lower) <> "-",
        worker_pid: String.to_integer(System.pid()),
        max_event_bytes: settings.max_event_bytes
    }
  end

  defp table(name), do: :ets.new(:"run_recorder_#{name}", [:ordered_set, :public, write_concurrency: true])

  ## Counters, any process

  def get(buffer, name), do: :atomics.get(buffer.counters, @index[name])
  def add(buffer, name, count \\ 1), do: :atomics.add(buffer.counters, @index[name], count)
  def put(buffer, name, number), do: :atomics.put(buffer.counters, @index[name], number)
  def next(buffer), do: :atomics.add_get(buffer.counters, @index[:sequence], 1)

  @doc "Sets a flag and answers whether it was set before."
  def raise_flag(buffer, name), do: :atomics.exchange(buffer.counters, @index[name], 1) == 1

  def open?(buffer), do: get(buffer, :open) == 1

  @doc "How many were dropped of which the log has not been told, from now on told."
  def take_unsaid(buffer) do
    unsaid = unsaid(buffer)
    add(buffer, :said, unsaid)
    unsaid
  end

  @doc "How many were dropped of which the log has not been told."
  def unsaid(buffer), do: get(buffer, :dropped) - get(buffer, :said)

  @doc "Counts an event that came after the end."
  def too_late(buffer) do
    add(buffer, :emitted)
    add(buffer, :said)
    add(buffer, :dropped)
  end

  @doc "What was counted; the sum holds whatever happens meanwhile, because what waits is the rest."
  def stats(buffer) do
    settled = for name <- [:acknowledged, :refused, :dropped, :kept], into: %{}, do: {name, get(buffer, name)}
    earlier = get(buffer, :earlier)
    emitted = get(buffer, :emitted)
    waiting = emitted - (settled |> Map.values() |> Enum.sum())

    Map.merge(settled, %{emitted: emitted + earlier, waiting: waiting + earlier, truncated: get(buffer, :truncated)})
  end

  ## Callers

  @doc "Takes a line in, at the place of `key`. What no longer fits is dropped, details first."
  def insert(buffer, key, class, line) do
    bytes = byte_size(line) + @entry_bytes
    add(buffer, :emitted)
    held = :atomics.add_get(buffer.counters, @index[:bytes], bytes)
    :ets.insert(Map.fetch!(buffer, class), {key, line, class, bytes, false})
    if held > buffer.settings.buffer_bytes, do: make_room(buffer)
    :ok
  end

  defp make_room(buffer) do
    if get(buffer, :bytes) > buffer.settings.buffer_bytes and drop_oldest(buffer), do: make_room(buffer), else: :ok
  end

  # False where all that is left is on its way.
  defp drop_oldest(buffer) do
    case Enum.find(candidates(buffer), fn {_table, key} -> key != :"$end_of_table" end) do
      nil -> false
      {table, key} -> drop(buffer, :ets.take(table, key))
    end
  end

  defp candidates(buffer) do
    Stream.map([buffer.detail, buffer.lifecycle], fn table -> {table, :ets.first(table)} end)
  end

  defp drop(_buffer, []), do: true

  defp drop(buffer, [entry]) do
    settle(buffer, entry, :dropped)
    true
  end

  @doc "Counts an entry that its caller has taken out, as `outcome`."
  def settle(buffer, {_key, _line, :earlier, _bytes, _reduced?}, outcome) do
    add(buffer, :emitted)
    add(buffer, outcome)
    add(buffer, :earlier, -1)
  end

  def settle(buffer, {_key, _line, _class, bytes, _reduced?}, outcome) do
    add(buffer, :bytes, -bytes)
    add(buffer, outcome)
  end

  @doc "Whether everything up to `key` is settled, and what was left from earlier too."
  def settled?(buffer, key) do
    get(buffer, :earlier) == 0 and
      Enum.all?([buffer.lifecycle, buffer.detail, buffer.sent], fn table -> settled_in?(table, key) end)
  end

  defp settled_in?(table, key) do
    case :ets.first(table) do
      :"$end_of_table" -> true
      first -> first > key
    end
  end

  ## The connection

  @doc "Moves the next entry, the first of `classes`' first ones, to what is sent; nil where there is none."
  def check_out(buffer, classes) do
    firsts = for class <- classes, key = first(Map.fetch!(buffer, class)), do: {key, class}
    if firsts == [], do: nil, else: firsts |> Enum.min() |> check_out_at(buffer, classes)
  end

  defp first(table) do
    case :ets.first(table) do
      :"$end_of_table" -> nil
      key -> key
    end
  end

  defp check_out_at({key, class}, buffer, classes) do
    table = Map.fetch!(buffer, class)

    case :ets.lookup(table, key) do
      [entry] ->
        :ets.insert(buffer.sent, entry)
        if :ets.take(table, key) == [], do: :ets.delete(buffer.sent, key)
        if :ets.member(buffer.sent, key), do: entry, else: check_out(buffer, classes)

      # A caller dropped it.
      [] ->
        check_out(buffer, classes)
    end
  end

  @doc "Takes a sent entry out, for its caller to count; nil where it is not there."
  def take_sent(buffer, key) do
    case :ets.take(buffer.sent, key) do
      [entry] -> entry
      [] -> nil
    end
  end

  @doc "Puts a sent entry back into its place, to be sent again; with another line where it was reduced."
  def put_back(buffer, {key, _line, class, _bytes, _reduced?} = entry) do
    :ets.insert(Map.fetch!(buffer, class), entry)
    :ets.delete(buffer.sent, key)
  end

  @doc "Puts everything back that is sent and not settled."
  def put_all_back(buffer), do: Enum.each(:ets.tab2list(buffer.sent), &put_back(buffer, &1))

  @doc "A sent entry with a shorter line in place of its own."
  def reduced(buffer, {key, _line, class, bytes, _reduced?}, line) do
    new_bytes = byte_size(line) + @entry_bytes
    if class != :earlier, do: add(buffer, :bytes, new_bytes - bytes)
    add(buffer, :truncated)
    {key, line, class, new_bytes, true}
  end

  @doc "Forgets what was read from files: it is read again."
  def forget_earlier(buffer) do
    :ets.delete_all_objects(buffer.earlier)
    :ets.match_delete(buffer.sent, {:_, :_, :earlier, :_, :_})
    put(buffer, :earlier, 0)
  end

  @doc "Takes in a line that was left from earlier, before all others."
  def insert_earlier(buffer, key, line) do
    add(buffer, :earlier)
    :ets.insert(buffer.earlier, {key, line, :earlier, 0, false})
  end

  @doc "All entries of this process's own, in order, taken out of the tables; for the end."
  def take_all(buffer) do
    [buffer.sent, buffer.lifecycle, buffer.detail]
    |> Enum.flat_map(&take_table/1)
    |> Enum.reject(fn {_key, _line, class, _bytes, _reduced?} -> class == :earlier end)
    |> Enum.uniq_by(fn {key, _line, _class, _bytes, _reduced?} -> key end)
    |> Enum.sort()
  end

  defp take_table(table) do
    entries = :ets.tab2list(table)
    Enum.flat_map(entries, fn entry -> :ets.take(table, elem(entry, 0)) end)
  end
end
