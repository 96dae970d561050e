defmodule RunRecorder.Supervisor do
  # Owns the tables, so that what is in them outlives the processes that work on them.
  @moduledoc false

  use Supervisor

  alias RunRecorder.{Buffer, Client, Connection, Watch}

  def start_link(settings), do: Supervisor.start_link(__MODULE__, settings, name: __MODULE__)

  @impl true
  def init(settings) do
    buffer = Buffer.new(settings)
    Watch.new_tables()
    Client.open(buffer)
    # A process that crashes again and again gets no rest from this one, which must not end with it.
    Supervisor.init([{Connection, buffer}, {Watch, buffer}],
      strategy: :one_for_one,
      max_restarts: 1_000_000,
      max_seconds: 1
    )
  end
end
