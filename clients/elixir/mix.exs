defmodule RunRecorder.MixProject do
  use Mix.Project

  @version "0.2.0"

  def project do
    [
      app: :run_recorder,
      version: @version,
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      description:
        "Records background jobs, Oban's among them, in run-recorder: never blocks, never raises, loses nothing unsaid.",
      package: package(),
      # The tests with real Oban bring implementations with them, and need applications of Erlang's that the client does not.
      consolidate_protocols: Mix.env() != :test,
      prune_code_paths: Mix.env() != :test,
      # The tests start the application themselves, each with its own socket.
      aliases: [test: "test --no-start"],
      deps: deps()
    ]
  end

  def application do
    [
      mod: {RunRecorder.Application, []},
      extra_applications: [:logger, :crypto, telemetry: :optional]
    ]
  end

  # The one dependency, for RunRecorder.Oban. A system without Hex (a distribution's Elixir) builds without it; the adapter
  # then uses the telemetry that Oban brings.
  defp deps do
    if Code.ensure_loaded?(Hex), do: [{:telemetry, "~> 0.4 or ~> 1.0"}], else: []
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib mix.exs .formatter.exs README.md CHANGELOG.md LICENSE)
    ]
  end
end
