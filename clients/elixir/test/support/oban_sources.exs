defmodule RunRecorder.ObanSources do
  # Real Oban without a package manager: compiles the sources in the folder that RUN_RECORDER_OBAN_SOURCES names, which has
  # telemetry, decimal, jason, db_connection, postgrex, ecto, ecto_sql and oban side by side, each as its repository has it.
  # What is compiled is kept in `out` and used again.

  @applications [
    telemetry: {{:telemetry_app, []}, []},
    decimal: {[], []},
    jason: {[], [:decimal]},
    db_connection: {{DBConnection.App, []}, [:telemetry]},
    postgrex: {{Postgrex.App, []}, [:db_connection, :decimal, :jason, :crypto, :ssl]},
    ecto: {{Ecto.Application, []}, [:telemetry, :decimal, :jason, :eex]},
    ecto_sql: {{Ecto.Adapters.SQL.Application, []}, [:ecto, :db_connection, :postgrex, :eex]},
    oban: {{Oban.Application, []}, [:ecto_sql, :jason, :telemetry]}
  ]

  # nil where there is none.
  def folder do
    folder = System.get_env("RUN_RECORDER_OBAN_SOURCES", "")
    if File.dir?(Path.join(folder, "oban/lib")), do: folder
  end

  # Compiles what is not compiled yet, and makes everything startable.
  def load(out) do
    Code.put_compiler_option(:ignore_module_conflict, true)
    for {name, {module, needed}} <- @applications, do: load(name, module, needed, Path.join(out, "#{name}"))
    :ok
  end

  defp load(name, module, needed, out) do
    unless File.exists?(Path.join(out, "compiled")), do: compile(Path.join(folder(), "#{name}"), out)
    Code.prepend_path(out)
    properties = [vsn: ~c"0", applications: [:kernel, :stdlib, :elixir, :logger | needed], env: env(name)]
    :application.load({:application, name, if(module == [], do: properties, else: [{:mod, module} | properties])})
  end

  defp env(:postgrex), do: [type_server_reap_after: 180_000, type_server_timeout: 60_000, json_library: Jason]
  defp env(:ecto_sql), do: [postgres_map_type: "jsonb"]
  defp env(_name), do: []

  defp compile(source, out) do
    File.mkdir_p!(out)
    compile_erlang(source, out)
    files = Path.wildcard(Path.join(source, "lib/**/*.ex"))
    {:ok, _modules, _warnings} = Kernel.ParallelCompiler.compile_to_path(files, out)
    File.write!(Path.join(out, "compiled"), "")
  end

  defp compile_erlang(source, out) do
    for file <- Path.wildcard(Path.join(source, "src/*.erl")) do
      {:ok, _module} =
        :compile.file(to_charlist(file), [{:outdir, to_charlist(out)}, {:i, to_charlist(source <> "/include")}])
    end
  end
end
