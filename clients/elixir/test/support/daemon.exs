defmodule RunRecorder.TestDaemon do
  # A real daemon of its own for a test, from the folder that RUN_RECORDER_BIN names, and the client that sends to it.

  alias RunRecorder.Decoder

  def available?, do: File.exists?(Path.join(bin(), "run-recorderd"))
  def bin, do: System.get_env("RUN_RECORDER_BIN", "/nonexistent")

  # A folder with nothing in it; `start` makes its daemon.
  def new do
    folder = Path.join(System.tmp_dir!(), "rr-#{Base.encode16(:crypto.strong_rand_bytes(6), case: :lower)}")
    File.mkdir_p!(folder)
    System.put_env("XDG_STATE_HOME", Path.join(folder, "state"))
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder, socket: Path.join(folder, "events.sock"), control: Path.join(folder, "control.sock")}
  end

  def start(daemon) do
    folder = to_charlist(daemon.folder)

    port =
      Port.open({:spawn_executable, Path.join(bin(), "run-recorderd")}, [
        :binary,
        :stderr_to_stdout,
        :exit_status,
        env: [{~c"RUNTIME_DIRECTORY", folder}, {~c"STATE_DIRECTORY", folder} | not_its_own()]
      ])

    {:os_pid, pid} = Port.info(port, :os_pid)
    ExUnit.Callbacks.on_exit(fn -> signal(pid, "KILL") end)
    wait(fn -> tool(daemon, ["status"]) != :error end)
    Map.merge(daemon, %{port: port, pid: pid})
  end

  # It refuses variables of its name that it does not know.
  defp not_its_own do
    for {"RUN_RECORDER_" <> _ = name, _value} <- System.get_env(), do: {to_charlist(name), false}
  end

  def signal(%{pid: pid}, name), do: signal(pid, name)
  def signal(pid, name), do: System.cmd("/bin/sh", ["-c", "kill -#{name} #{pid} 2>/dev/null"])

  def kill(daemon) do
    signal(daemon, "KILL")
    port = daemon.port
    receive_exit(port)
  end

  defp receive_exit(port) do
    receive do
      {^port, {:exit_status, _status}} -> :ok
      {^port, {:data, _words}} -> receive_exit(port)
    after
      60_000 -> raise "the daemon did not end"
    end
  end

  # The objects that the tool prints, or :error.
  def tool(daemon, arguments) do
    arguments = ["--control", daemon.control | arguments] ++ ["--json"]

    environment = for {name, _unset} <- not_its_own(), do: {to_string(name), nil}

    case System.cmd(Path.join(bin(), "run-recorder"), arguments, stderr_to_stdout: true, env: environment) do
      {lines, 0} ->
        for line <- String.split(lines, "\n", trim: true), {:ok, object} <- [Decoder.decode(line)], do: object

      _failed ->
        :error
    end
  end

  def show(daemon, run_id) do
    case tool(daemon, ["show", run_id]) do
      [run | _rest] -> run
      _none -> nil
    end
  end

  def types(daemon, run_id) do
    case tool(daemon, ["events", run_id]) do
      :error -> []
      events -> Enum.map(events, & &1["type"])
    end
  end

  # Starts the client anew.
  def open(daemon, settings \\ []) do
    close()

    for name <- [:buffer_bytes, :flush_timeout, :max_event_bytes, :disabled],
        do: Application.delete_env(:run_recorder, name)

    Application.put_all_env(run_recorder: [socket: daemon.socket] ++ settings)
    {:ok, _started} = Application.ensure_all_started(:run_recorder)
    ExUnit.Callbacks.on_exit(fn -> close() end)
    :ok
  end

  def close do
    ExUnit.CaptureLog.capture_log(fn ->
      RunRecorder.close(0)
      Application.stop(:run_recorder)
    end)
  end

  def wait(condition, tries \\ 6_000) do
    cond do
      condition.() -> :ok
      tries == 0 -> raise "waited for a minute"
      true -> Process.sleep(10) && wait(condition, tries - 1)
    end
  end

  def stats! do
    stats = RunRecorder.stats()
    sum = stats.acknowledged + stats.refused + stats.dropped + stats.kept + stats.waiting
    if stats.emitted == sum, do: stats, else: raise("#{inspect(stats)} does not add up")
  end
end
