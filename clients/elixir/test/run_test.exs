defmodule RunRecorder.RunTest do
  # Runs against a real daemon: what the work does comes out as it was, and its end is recorded.
  use ExUnit.Case, async: false
  @moduletag :real_daemon

  alias RunRecorder.{Run, TestDaemon}

  setup_all do
    daemon = TestDaemon.new() |> TestDaemon.start()
    {:ok, daemon: daemon}
  end

  setup %{daemon: daemon} do
    TestDaemon.open(daemon)
    {:ok, id: "run-#{System.unique_integer([:positive])}"}
  end

  defp ended(daemon, id) do
    TestDaemon.wait(fn ->
      RunRecorder.flush(1_000) and (TestDaemon.show(daemon, id) || %{})["status"] not in [nil, "running"]
    end)

    TestDaemon.show(daemon, id)
  end

  test "what the work returns is the result, unless it has set one", %{daemon: daemon, id: id} do
    assert RunRecorder.run("c", [run_id: id, input: %{a: 1}, parent: "p"], fn -> {:ok, 1} end) == {:ok, 1}
    assert %{"status" => "completed", "council" => "c", "input" => %{"a" => 1}} = run = ended(daemon, id)
    assert run["result"] == %{"value" => ["ok", 1]} and run["parent_attempt_run_id"] == "p"

    RunRecorder.run("c", [run_id: id <> "s"], fn run -> Run.put_result(run, %{b: 2}) end)
    assert ended(daemon, id <> "s")["result"] == %{"b" => 2}
  end

  test "what the work says is recorded", %{daemon: daemon, id: id} do
    RunRecorder.run("c", [run_id: id], fn run ->
      Run.progress(run, 3, 10, "pages")
      Run.usage(run, input_tokens: 7)
      Run.usage(run, input_tokens: 5)
      Run.event(run, :row_done, row: 1)
      Run.heartbeat(run, 90)
      RunRecorder.event(run, "other", payload: %{a: 1})
    end)

    run = ended(daemon, id)
    assert run["progress"] == %{"done" => 3, "total" => 10, "unit" => "pages"}
    assert run["usage"] == %{"input_tokens" => 12} and run["expires_in"] == 90
    assert ~w(run_started progress usage usage row_done other run_completed) == TestDaemon.types(daemon, id)
  end

  test "what the work raises, throws or exits with comes out as it was", %{daemon: daemon, id: id} do
    raised = catch_error(RunRecorder.run("c", [run_id: id <> "r"], fn -> raise ArgumentError, "bad" end))
    assert raised == %ArgumentError{message: "bad"}
    assert catch_error(RunRecorder.run("c", [run_id: id <> "e"], fn -> :erlang.error(:badarg) end)) == :badarg
    assert catch_throw(RunRecorder.run("c", [run_id: id <> "t"], fn -> throw(:ball) end)) == :ball
    assert catch_exit(RunRecorder.run("c", [run_id: id <> "x"], fn -> exit(:enough) end)) == :enough
    assert catch_exit(RunRecorder.run("c", [run_id: id <> "c"], fn -> exit({:shutdown, 1}) end)) == {:shutdown, 1}

    kinds =
      for letter <- ~w(r e t x c) do
        run = ended(daemon, id <> letter)
        {run["status"], hd(run["error"]["errors"])["kind"]}
      end

    assert kinds == [
             {"failed", "ArgumentError"},
             {"failed", "ArgumentError"},
             {"failed", "throw"},
             {"failed", "exit"},
             {"cancelled", "cancelled"}
           ]

    error = hd(ended(daemon, id <> "r")["error"]["errors"])
    assert error["message"] == "bad" and error["stacktrace"] =~ "run_test.exs"
  end

  test "a process that is killed leaves a lost run, one that is told to stop a cancelled one", %{daemon: daemon, id: id} do
    waiting = fn id ->
      test = self()

      pid =
        spawn(fn ->
          RunRecorder.run("c", [run_id: id], fn ->
            send(test, :waits)
            Process.sleep(:infinity)
          end)
        end)

      assert_receive :waits, 60_000
      # By then the process is monitored, so that it is known how it ends.
      :sys.get_state(RunRecorder.Watch)
      pid
    end

    Process.exit(waiting.(id <> "k"), :kill)
    Process.exit(waiting.(id <> "s"), :shutdown)
    Process.exit(waiting.(id <> "l"), :linked_one_crashed)
    assert %{"status" => "stuck", "error" => %{"reason" => "reported_lost"}} = run = ended(daemon, id <> "k")
    assert run["error"]["message"] =~ "killed"
    assert ended(daemon, id <> "s")["status"] == "cancelled"
    assert ended(daemon, id <> "l")["status"] == "stuck"
  end

  test "a process that lives on after its runs is watched once and never said to be lost", %{daemon: daemon, id: id} do
    pid =
      spawn(fn ->
        for number <- 1..20, do: RunRecorder.run("c", [run_id: "#{id}-#{number}"], fn -> :ok end)
        Process.sleep(:infinity)
      end)

    for number <- 1..20, do: assert(ended(daemon, "#{id}-#{number}")["status"] == "completed")
    Process.exit(pid, :kill)
    assert RunRecorder.flush(60_000)
    assert TestDaemon.types(daemon, "#{id}-20") == ["run_started", "run_completed"]
  end

  test "nothing that is given raises", %{id: id} do
    for odd <- [nil, 7, {:a}, [1 | 2], %{1 => 2}, self(), <<255>>, fn -> 1 end] do
      assert RunRecorder.event(odd, odd, odd) == :ok

      assert RunRecorder.event(id, "x", %{payload: odd, usage: odd, progress: odd, errors: odd, at: odd, id: odd}) ==
               :ok

      assert RunRecorder.run(odd, odd, fn run -> Run.progress(run, odd, odd, odd) end) == :ok
      assert Run.event(odd, odd, odd) == :ok
    end

    assert RunRecorder.flush(60_000)
    TestDaemon.stats!()
  end

  test "where the application does not run calls do nothing", %{daemon: daemon} do
    TestDaemon.open(daemon, disabled: true)
    assert RunRecorder.event("r", "x", %{}) == :ok
    assert RunRecorder.run("c", fn run -> Run.progress(run, 1) end) == :ok
    assert RunRecorder.flush(10) == true
    assert %{emitted: 0, dropped: 0} = RunRecorder.stats()
  end

  test "after the end events are dropped, counted and said once", %{daemon: daemon} do
    for close <- [fn -> RunRecorder.close() end, fn -> Application.stop(:run_recorder) end] do
      TestDaemon.open(daemon)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          close.()
          assert RunRecorder.event("r", "x", %{}) == :ok
          assert RunRecorder.run("c", fn run -> Run.progress(run, 1) end) == :ok
          assert RunRecorder.flush(10) == true
          assert RunRecorder.close() == :ok
        end)

      assert %{emitted: 4, dropped: 4} = TestDaemon.stats!()
      assert length(String.split(log, "the client is closed")) == 2
      refute log =~ "events were dropped"
    end
  end

  test "an event of which something cannot be read is not lost, and not said without what it is about", %{
    daemon: daemon,
    id: id
  } do
    broken = %{~U[2026-01-02 03:04:05Z] | month: nil}

    log =
      ExUnit.CaptureLog.capture_log(fn ->
        RunRecorder.event(id, "row", %{at: broken, payload: broken})
        RunRecorder.event(id, "row", %{at: %{broken | year: Integer.pow(10, 170_000)}})
        # A list that ends in no list has no length.
        RunRecorder.event(id, "row", %{errors: [1 | 2], usage: [{:a, 1} | 2]})
        RunRecorder.Watch.result(nil)
        assert RunRecorder.flush(60_000)
      end)

    assert %{refused: 0, dropped: 0} = TestDaemon.stats!()
    assert TestDaemon.types(daemon, id) == ["row", "row", "row"]
    refute log =~ "ArgumentError"
    refute log =~ "a mistake of its own"
  end

  test "a mistake of the client's own is said with its place, and the end of the application is none" do
    log =
      ExUnit.CaptureLog.capture_log(fn ->
        assert RunRecorder.Client.with_open(7, fn _buffer -> :ets.lookup_element(:run_recorder_runs, 1, 4) end) == 7
      end)

    assert log =~ ~r/run_recorder: a mistake of its own, ArgumentError at\n.*ets.*run_test.exs/s
  end

  test "huge integers are written nowhere", %{daemon: daemon, id: id} do
    huge = huge()
    assert catch_throw(RunRecorder.run("c", [run_id: id <> "t"], fn -> throw({huge, 7}) end)) == {huge, 7}
    assert catch_exit(RunRecorder.run("c", [run_id: id <> "x"], fn -> exit(%{huge: huge}) end)) == %{huge: huge}
    assert catch_error(RunRecorder.run("c", [run_id: id <> "e"], fn -> :erlang.error([huge]) end)) == [huge]
    assert catch_error(RunRecorder.run("c", [run_id: id <> "m"], fn -> 1 = huge end)) == {:badmatch, huge}

    assert catch_error(RunRecorder.run("c", [run_id: id <> "k"], fn -> Map.fetch!(%{}, huge) end)) ==
             {:badkey, huge}

    # The arguments are in the stack trace.
    catch_error(RunRecorder.run("c", [run_id: id <> "s"], fn -> apply(:lists, :no_such_function, [huge]) end))

    for {letter, words} <- [{"t", ", 7}"}, {"x", "%{huge: "}, {"e", ""}, {"m", "no match"}, {"k", "key "}] do
      message = hd(ended(daemon, id <> letter)["error"]["errors"])["message"]
      assert message =~ "an integer of about" and message =~ words
    end

    stacktrace = hd(ended(daemon, id <> "s")["error"]["errors"])["stacktrace"]
    assert stacktrace =~ "an integer of about"

    RunRecorder.run(huge, [run_id: huge, queue: huge, parent: huge, job_id: huge, attempt: huge], fn -> :ok end)
    run = ended(daemon, RunRecorder.Fields.run_id(huge))
    assert run["council"] =~ "an integer of about" and run["queue"] =~ "an integer of about"
  end

  # Twice what is written.
  defp huge, do: Bitwise.bsl(1, 200_000)
end
