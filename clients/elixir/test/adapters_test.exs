defmodule RunRecorder.AdaptersTest do
  # What the adapters make of what Oban and CouncilEx hand them, without either; oban_test.exs has real Oban.
  use ExUnit.Case, async: false
  @moduletag :real_daemon

  alias RunRecorder.TestDaemon

  defmodule Job do
    defstruct [:id, :args, :worker, :queue, :attempt, :attempted_at, :inserted_at, meta: %{}]
  end

  defmodule MemberStarted do
    defstruct [:name]
  end

  setup_all do
    {:ok, daemon: TestDaemon.new() |> TestDaemon.start()}
  end

  setup %{daemon: daemon} do
    TestDaemon.open(daemon)
    {:ok, id: System.unique_integer([:positive])}
  end

  defp job(id, fields \\ []) do
    inserted = ~U[2026-01-02 03:04:05.000000Z]
    job = %Job{id: id, args: %{}, worker: "W", queue: "q", attempt: 1, inserted_at: inserted, attempted_at: inserted}
    struct!(job, fields)
  end

  defp handle(event, metadata, options \\ %{}) do
    assert RunRecorder.Oban.handle_event([:oban | event], %{}, metadata, options) == :ok
  end

  defp run(daemon, id) do
    assert RunRecorder.flush(60_000)
    TestDaemon.show(daemon, id)
  end

  test "run ids come from the job, also where attempt numbers come back", %{id: id} do
    first = job(id)
    claimed = ~U[2026-01-02 03:05:00.000001Z]
    snoozed = job(id, attempted_at: claimed, meta: %{"snoozed" => 1})
    retried = job(id, attempt: 2, attempted_at: claimed)
    assert RunRecorder.Oban.run_id(first) == "oban-#{id}-1767323045000000"
    assert RunRecorder.Oban.run_id(snoozed) == "oban-#{id}-2-1767323100000001"
    assert RunRecorder.Oban.run_id(retried) == "oban-#{id}-2-1767323100000001"
    for later <- [snoozed, retried], do: assert(RunRecorder.Oban.first_run_id(later) == RunRecorder.Oban.run_id(first))

    # The same job as its row has it after the snooze: the number and the count have changed, the execution has not.
    put_off = %{first | attempt: 0, meta: %{"snoozed" => 1}}
    assert RunRecorder.Oban.run_id(put_off) == RunRecorder.Oban.run_id(first)
    put_off_again = %{snoozed | attempt: 0, meta: %{"snoozed" => 2}}
    assert RunRecorder.Oban.run_id(put_off_again) == RunRecorder.Oban.run_id(snoozed)
    assert RunRecorder.Oban.run_id(%{first | meta: %{"snoozed" => "a word"}}) == RunRecorder.Oban.run_id(first)
    assert RunRecorder.Oban.run_id(job(nil)) =~ ~r/\Aoban-inline-\d+-1767323045000000\z/
  end

  test "an execution that was orphaned is lost, and its end corrects that", %{daemon: daemon, id: id} do
    metadata = %{job: job(id), conf: %{name: Oban}}
    handle([:job, :start], metadata)
    handle([:queue, :shutdown], %{orphaned: [id], queue: "q", conf: %{name: OtherOban}})
    handle([:queue, :shutdown], %{orphaned: [id], queue: "q", conf: %{name: Oban}})
    assert %{"status" => "stuck"} = run(daemon, RunRecorder.Oban.run_id(job(id)))
    handle([:job, :stop], Map.merge(metadata, %{state: :success, result: :ok}))
    assert %{"status" => "completed"} = run(daemon, RunRecorder.Oban.run_id(job(id)))
  end

  test "later versions' snoozes and options are understood", %{daemon: daemon, id: id} do
    for {number, options, result, status, snoozed} <- [
          {1, %{}, {:snooze, {5, :minutes}}, "completed", 300},
          {2, %{snooze: :cancelled}, {:snooze, 60}, "cancelled", nil},
          {3, %{}, {:snooze, {1, :month}}, "completed", 2_592_000},
          {4, %{}, {:snooze, {1, :century}}, "completed", [1, "century"]},
          {5, %{snooze: :cancelled}, {:snooze, {1, :century}}, "cancelled", nil}
        ] do
      metadata = %{job: job(id * 10 + number)}
      handle([:job, :start], metadata, options)
      handle([:job, :stop], Map.merge(metadata, %{state: :snoozed, result: result}), options)
      run = run(daemon, RunRecorder.Oban.run_id(metadata.job))
      assert run["status"] == status and run["oban_job_state_at_finalize"] == "scheduled"
      if snoozed, do: assert(run["result"] == %{"snoozed" => snoozed})
    end
  end

  test "no event makes the handler raise" do
    for metadata <- [%{}, %{job: nil}, %{job: %{}}, nil, %{job: job(1), state: :stop, result: self()}] do
      for event <- [[:job, :start], [:job, :stop], [:job, :exception], [:queue, :shutdown], [:other]],
          do: handle(event, metadata)
    end
  end

  test "a council's events are sent, and its outcome ends the run", %{daemon: daemon, id: id} do
    alias RunRecorder.CouncilEx, as: Recorder
    run_id = "council-#{id}"
    {:ok, state} = Recorder.init(run_id, job: job(id, attempt: 2, args: %{"run_id" => "the-first"}))
    {:ok, state} = Recorder.handle_event({:run_started, %{council: My.Council, input: %{q: 1}}}, state)
    {:ok, state} = Recorder.handle_event(%{type: :round_started, name: "r", idx: 0}, state)
    {:ok, state} = Recorder.handle_event(%MemberStarted{name: "m"}, state)
    {:ok, state} = Recorder.handle_event({:member_token, "t"}, state)
    {:ok, state} = Recorder.handle_event({:member_completed, %{usage: %{input_tokens: 3}}}, state)
    {:ok, state} = Recorder.handle_event({:run_completed, %{}}, state)
    assert Recorder.handle_finalize({:ok, %{answer: 42}}, state) == :ok

    run = run(daemon, run_id)
    assert run["council"] == "My.Council" and run["status"] == "completed" and run["result"] == %{"answer" => 42}

    assert run["parent_attempt_run_id"] == "the-first" and run["oban_job_id"] == id and
             run["usage"] == %{"input_tokens" => 3}

    types = ~w(run_started round_started member_started member_completed run_completed)
    assert TestDaemon.types(daemon, run_id) == types

    {:ok, state} = Recorder.init(run_id <> "c", [])
    assert Recorder.handle_finalize(:cancelled, state) == :ok
    assert run(daemon, run_id <> "c")["status"] == "cancelled"
    {:ok, state} = Recorder.init(run_id <> "e", nil)
    assert Recorder.handle_finalize({:error, [%RuntimeError{message: "m"}, "text", :atom]}, state) == :ok
    assert length(run(daemon, run_id <> "e")["error"]["errors"]) == 3
    for odd <- [nil, self(), {}, [1]], do: assert({:ok, _state} = Recorder.handle_event(odd, state))
  end
end
