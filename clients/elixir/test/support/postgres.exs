defmodule RunRecorder.TestPostgres do
  # A private PostgreSQL that listens on nothing but a socket in its own folder. It does not run as root, so root gives it to
  # the user postgres.

  def available?, do: bin() != nil and (not root?() or System.find_executable("setpriv") != nil)

  def start do
    folder = Path.join(System.tmp_dir!(), "rrpg-#{Base.encode16(:crypto.strong_rand_bytes(4), case: :lower)}")
    File.mkdir_p!(folder)
    if root?(), do: {_, 0} = System.cmd("chown", ["postgres", folder])
    {_, 0} = run("initdb", ["-D", folder <> "/data", "-A", "trust", "-U", "postgres", "--no-sync"], folder)
    options = "-c listen_addresses='' -c unix_socket_directories='#{folder}' -c fsync=off -c max_connections=50"
    {_, 0} = run("pg_ctl", ["-D", folder <> "/data", "-w", "-l", folder <> "/log", "-o", options, "start"], folder)
    folder
  end

  def stop(folder) do
    run("pg_ctl", ["-D", folder <> "/data", "-m", "immediate", "stop"], folder)
    File.rm_rf(folder)
  end

  defp run(program, arguments, folder) do
    path = Path.join(bin(), program)
    {command, arguments} = if root?(), do: {"setpriv", as_postgres() ++ [path | arguments]}, else: {path, arguments}
    System.cmd(command, arguments, stderr_to_stdout: true, cd: folder)
  end

  defp as_postgres, do: ["--reuid=postgres", "--regid=postgres", "--init-groups"]
  defp root?, do: match?({:ok, %File.Stat{uid: 0}}, File.stat("/proc/self"))
  defp bin, do: "/usr/lib/postgresql/*/bin" |> Path.wildcard() |> List.last()
end
