defmodule RunRecorder.Application do
  # Starts the client with the application and ends it with it, or with the script where applications are not stopped.
  @moduledoc false

  use Application

  alias RunRecorder.{Client, Settings}

  @impl true
  def start(_type, _arguments) do
    settings = Settings.read()
    if settings.disabled, do: start_nothing(), else: start_client(settings)
  end

  defp start_nothing do
    Client.forget()
    Supervisor.start_link([], strategy: :one_for_one)
  end

  defp start_client(settings) do
    # Scripts and Mix tasks end by halting, before which only these hooks run.
    System.at_exit(fn _status -> Client.close() end)
    RunRecorder.Supervisor.start_link(settings)
  end

  @impl true
  def prep_stop(state) do
    Client.close()
    state
  end
end
