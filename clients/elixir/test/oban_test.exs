if RunRecorder.ObanSources.folder() && RunRecorder.TestDaemon.available?() do
  RunRecorder.ObanSources.load(Path.join(Mix.Project.build_path(), "oban-sources"))
  {:ok, _started} = Application.ensure_all_started(:oban)
  {:ok, _started} = Application.ensure_all_started(:postgrex)

  Code.compile_quoted(
    quote do
      defmodule RunRecorder.ObanTest.Repo do
        use Ecto.Repo, otp_app: :run_recorder, adapter: Ecto.Adapters.Postgres
      end

      defmodule RunRecorder.ObanTest.Migration do
        use Ecto.Migration
        def up, do: Oban.Migration.up()
        def down, do: :ok
      end

      defmodule RunRecorder.ObanTest.Worker do
        use Oban.Worker, queue: :default, max_attempts: 3

        def backoff(_job), do: 600
        def timeout(%Oban.Job{args: %{"do" => "time out"}}), do: 100
        def timeout(_job), do: :infinity

        def perform(%Oban.Job{args: %{"do" => what}} = job), do: act(what, job)

        defp act("ok", _job), do: :ok
        defp act("value", _job), do: {:ok, %{pages: 3}}
        defp act("huge", _job), do: {:ok, String.duplicate("x", 2_000_000)}
        defp act("bad bytes", _job), do: {:ok, <<255, 0, "a">>}
        defp act("error", _job), do: {:error, "no"}
        defp act("raise", _job), do: raise(ArgumentError, "bad")
        defp act("exit", _job), do: exit(:enough)
        defp act("throw", _job), do: throw(:ball)
        defp act("kill", _job), do: Process.exit(self(), :kill)
        defp act("linked", _job), do: spawn_link(fn -> raise "below" end) && Process.sleep(:infinity)
        defp act("cancel", _job), do: {:cancel, "not wanted"}
        defp act("discard", _job), do: {:discard, "of no use"}
        defp act("snooze", _job), do: {:snooze, 60}
        # From Oban 2.24 the attempt after a snooze has the number 1 again.
        defp act("snooze once", %{attempt: 1, meta: meta}) when not is_map_key(meta, "snoozed"), do: {:snooze, 0}
        defp act("snooze once", _job), do: {:ok, "later"}

        defp act("progress", job) do
          job |> RunRecorder.Oban.run() |> RunRecorder.Run.progress(3, 10, "pages")
          job |> RunRecorder.Oban.run() |> RunRecorder.Run.put_result("set")
          :ok
        end

        defp act("time out", _job), do: Process.sleep(:infinity)

        defp act("wait", job) do
          send(:oban_test, {:waits, job.id, self()})
          Process.sleep(:infinity)
        end
      end
    end
  )
end

defmodule RunRecorder.ObanTest do
  # Real Oban over a real PostgreSQL: each outcome of a job beside what Oban says and the job's row has.
  use ExUnit.Case, async: false
  @moduletag :oban
  @moduletag :real_daemon
  @moduletag timeout: 300_000
  @compile {:no_warn_undefined,
            [Oban, Oban.Job, Oban.Registry, __MODULE__.Repo, __MODULE__.Worker, __MODULE__.Migration, Ecto.Migrator]}

  alias RunRecorder.{TestDaemon, TestPostgres}

  setup_all do
    folder = TestPostgres.start()
    on_exit(fn -> TestPostgres.stop(folder) end)
    settings = [database: "postgres", username: "postgres", socket_dir: folder, pool_size: 8, log: false]
    Application.put_env(:run_recorder, __MODULE__.Repo, settings)
    # Not linked to this process, which ends before the last callbacks.
    {:ok, _pid} =
      Supervisor.start_link([__MODULE__.Repo], strategy: :one_for_one) |> tap(fn {:ok, pid} -> Process.unlink(pid) end)

    Ecto.Migrator.up(__MODULE__.Repo, 1, __MODULE__.Migration, log: false)
    {:ok, daemon: TestDaemon.new() |> TestDaemon.start()}
  end

  setup %{daemon: daemon} do
    TestDaemon.open(daemon)
    Process.register(self(), :oban_test)
    :ok = RunRecorder.Oban.attach()
    on_exit(fn -> RunRecorder.Oban.detach() end)
  end

  defp start_oban(settings \\ []) do
    defaults = [
      name: Oban,
      repo: __MODULE__.Repo,
      notifier: Oban.Notifiers.PG,
      peer: Oban.Peers.Isolated,
      stage_interval: 50,
      shutdown_grace_period: 200,
      dispatch_cooldown: 1,
      queues: [default: 10]
    ]

    start_supervised!({Oban, Keyword.merge(defaults, settings)}, restart: :temporary)
  end

  defp insert(what, options \\ []) do
    {:ok, job} = %{"do" => what} |> __MODULE__.Worker.new(options) |> Oban.insert()
    job
  end

  defp reload(job), do: __MODULE__.Repo.get!(Oban.Job, job.id)

  # The run of the job's current execution, once it is at an end.
  defp ended(daemon, job) do
    TestDaemon.wait(fn ->
      RunRecorder.flush(1_000)
      run = TestDaemon.show(daemon, RunRecorder.Oban.run_id(reload(job)))
      run != nil and run["status"] != "running"
    end)

    job = reload(job)
    run = TestDaemon.show(daemon, RunRecorder.Oban.run_id(job))
    assert run["oban_job_id"] == job.id
    assert run["council"] == "RunRecorder.ObanTest.Worker"
    {run, job}
  end

  defp kind(run), do: run["error"]["errors"] |> List.first() |> Map.get("kind")

  test "what perform returns or does becomes the run's end, with the state that the job's row has", %{daemon: daemon} do
    start_oban()

    outcomes = [
      {"ok", "completed", "completed", nil},
      {"value", "completed", "completed", nil},
      {"huge", "completed", "completed", nil},
      {"bad bytes", "completed", "completed", nil},
      {"progress", "completed", "completed", nil},
      {"snooze", "completed", "scheduled", nil},
      {"error", "failed", "retryable", "Oban.PerformError"},
      {"raise", "failed", "retryable", "ArgumentError"},
      {"exit", "failed", "retryable", "exit"},
      {"throw", "failed", "retryable", "throw"},
      {"kill", "failed", "retryable", "exit"},
      {"linked", "failed", "retryable", "RuntimeError"},
      {"time out", "failed", "retryable", "Oban.TimeoutError"},
      {"cancel", "cancelled", "cancelled", "cancelled"},
      {"discard", "failed", "discarded", "discard"}
    ]

    jobs = for {what, _status, _state, _kind} <- outcomes, do: insert(what)

    runs =
      for {{what, status, state, kind}, job} <- Enum.zip(outcomes, jobs), into: %{} do
        {run, job} = ended(daemon, job)
        assert {what, run["status"]} == {what, status}
        assert {what, run["oban_job_state_at_finalize"], job.state} == {what, state, state}
        if kind, do: assert({what, kind(run)} == {what, kind})
        assert run["attempt"] == 1 and run["input"] == %{"do" => what}
        {what, run}
      end

    assert runs["value"]["result"] == %{"pages" => 3}
    assert runs["huge"]["result"] == nil
    assert runs["bad bytes"]["result"] == %{"value" => "\uFFFD\uFFFDa"}
    assert runs["snooze"]["result"] == %{"snoozed" => 60}
    assert runs["progress"]["progress"] == %{"done" => 3, "total" => 10, "unit" => "pages"}
    assert runs["progress"]["result"] == %{"value" => "set"}
  end

  test "the last attempt is discarded", %{daemon: daemon} do
    start_oban()
    {run, job} = ended(daemon, insert("error", max_attempts: 1))
    assert {run["status"], run["oban_job_state_at_finalize"], job.state} == {"failed", "discarded", "discarded"}
  end

  test "each execution is a run whose parent is the first, after a failure and after a snooze", %{daemon: daemon} do
    start_oban()
    failed = insert("error")
    {first, _job} = ended(daemon, failed)
    Oban.retry_job(failed.id)
    TestDaemon.wait(fn -> reload(failed).attempt == 2 end)
    {second, _job} = ended(daemon, failed)
    assert second["parent_attempt_run_id"] == first["run_id"] and second["attempt"] == 2
    assert first["run_id"] == RunRecorder.Oban.first_run_id(reload(failed))

    snoozed = insert("snooze once")
    TestDaemon.wait(fn -> reload(snoozed).state == "completed" end)
    {second, job} = ended(daemon, snoozed)
    assert second["result"] == %{"value" => "later"}
    assert second["parent_attempt_run_id"] == RunRecorder.Oban.first_run_id(job)
    assert second["attempt"] == job.attempt and second["run_id"] != second["parent_attempt_run_id"]
    assert TestDaemon.show(daemon, RunRecorder.Oban.first_run_id(job))["result"] == %{"snoozed" => 0}
  end

  test "a job that is cancelled while it executes is cancelled", %{daemon: daemon} do
    start_oban()
    job = insert("wait")
    assert_receive {:waits, _id, _pid}, 60_000
    Oban.cancel_job(job.id)
    {run, job} = ended(daemon, job)
    assert {run["status"], run["oban_job_state_at_finalize"], job.state} == {"cancelled", "cancelled", "cancelled"}
    assert "run_lost" not in TestDaemon.types(daemon, run["run_id"])
  end

  test "a job whose producer crashed is lost", %{daemon: daemon} do
    start_oban()
    job = insert("wait")
    assert_receive {:waits, _id, _pid}, 60_000
    Oban |> Oban.Registry.whereis({:producer, "default"}) |> Process.exit(:kill)
    {run, job} = ended(daemon, job)
    assert {run["status"], job.state} == {"stuck", "executing"}
    assert run["error"]["reason"] == "reported_lost"
  end

  test "a job that a stopped queue leaves behind is lost", %{daemon: daemon} do
    start_oban()
    job = insert("wait")
    assert_receive {:waits, _id, _pid}, 60_000
    stop_supervised!(Oban)
    {run, job} = ended(daemon, job)
    assert {run["status"], job.state} == {"stuck", "executing"}
    assert run["error"]["reason"] == "reported_lost"
  end

  test "a job that is there already has one run", %{daemon: daemon} do
    start_oban()
    options = [unique: [period: 60]]
    first = insert("value", options)
    assert insert("value", options).id == first.id
    {run, _job} = ended(daemon, first)
    assert Enum.count(TestDaemon.tool(daemon, ["list", "--job", "#{first.id}"])) == 1
    assert run["status"] == "completed"
  end

  test "a drained queue is recorded", %{daemon: daemon} do
    start_oban(queues: false, plugins: false)
    ok = insert("ok")
    bad = insert("raise")
    assert %{success: 1, failure: 1} = Oban.drain_queue(queue: :default)
    assert {%{"status" => "completed"}, _job} = ended(daemon, ok)
    assert {%{"status" => "failed"}, _job} = ended(daemon, bad)
  end

  test "jobs without an id, of inline testing, are recorded", %{daemon: daemon} do
    start_oban(testing: :inline)
    {:ok, job} = %{"do" => "value"} |> __MODULE__.Worker.new() |> Oban.insert()
    assert job.id == nil and job.state == "completed"
    assert RunRecorder.flush(60_000)
    run = TestDaemon.show(daemon, RunRecorder.Oban.run_id(job))
    assert run["status"] == "completed" and run["result"] == %{"pages" => 3} and run["oban_job_id"] == nil
  end

  test "options that raise neither reach the job nor detach the handler", %{daemon: daemon} do
    raises = fn _job -> raise "an option" end

    RunRecorder.Oban.attach(
      council: raises,
      input: raises,
      ignore: raises,
      queue: raises,
      result: fn _result, _job -> exit(:no) end
    )

    start_oban()
    {run, _job} = ended(daemon, insert("value"))
    assert run["input"] == %{"value" => "[unreadable: RuntimeError]"}
    assert run["result"] == %{"value" => "[unreadable: exit]"}

    RunRecorder.Oban.attach(ignore: [__MODULE__.Worker])
    ignored = insert("ok")
    TestDaemon.wait(fn -> reload(ignored).state == "completed" end)
    assert RunRecorder.flush(60_000)
    assert TestDaemon.tool(daemon, ["list", "--job", "#{ignored.id}"]) == []
  end

  test "jobs go on while the daemon hangs and where the client does not run", %{daemon: daemon} do
    start_oban()
    TestDaemon.signal(daemon, "STOP")
    jobs = for _number <- 1..50, do: insert("value")
    TestDaemon.wait(fn -> Enum.all?(jobs, &(reload(&1).state == "completed")) end)
    TestDaemon.signal(daemon, "CONT")
    assert RunRecorder.flush(60_000)
    for job <- jobs, do: assert({%{"status" => "completed"}, _job} = ended(daemon, job))

    TestDaemon.close()
    job = insert("value")
    TestDaemon.wait(fn -> reload(job).state == "completed" end)
  end
end
