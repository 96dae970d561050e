# frozen_string_literal: true

require_relative "support"

begin
  require "sidekiq"
  require "sidekiq/api"
  require "active_job"
rescue LoadError => e
  SIDEKIQ_MISSING = e.message
  warn("test_sidekiq.rb is skipped: #{e.message}")
end

# The middleware in a real sidekiq process, with a redis-server of its own; every row is compared with what sidekiq did.
class TestSidekiq < Minitest::Test
  include Support::WithDaemon

  JOBS = File.expand_path("sidekiq_jobs.rb", __dir__)
  # Debian's redis-tools has the server too, under the name of one of its tools.
  REDIS = %w[redis-server redis-check-rdb].flat_map { |name| ENV.fetch("PATH", "").split(":").map { |folder| File.join(folder, name) } }
                                          .find { |path| File.executable?(path) }

  def setup
    skip("sidekiq or activejob is not installed: #{SIDEKIQ_MISSING}") if defined?(SIDEKIQ_MISSING)
    skip("redis is not installed") unless REDIS
    super
    start_redis
    start_sidekiq
  end

  def teardown
    stop("KILL", @sidekiq)
    stop("KILL", @redis)
    super
  end

  def test_each_execution_is_a_run_with_its_outcome
    ok, failing, gone = Succeeds.perform_async(1, "two"), Fails.perform_async(file("raise")), FailsForGood.perform_async
    row = first_of(ok, "completed")
    assert_equal ["Succeeds", [1, "two"], ok, "sidekiq", nil], row.values_at("council", "input", "job_id", "queue", "result").map { |v| plain(v) }
    assert_equal({ "done" => 1, "total" => 1, "unit" => "jobs" }, row["progress"])
    assert_equal [[1, "failed", "discarded", "never again"]], executions_of(gone, 1)
    check_retries(failing)
  end

  def test_a_job_that_is_put_back_at_shutdown_goes_on_in_the_same_run
    path = file("wait")
    jid = Waits.perform_async(path)
    first_of(jid, "running")
    stop("TERM", @sidekiq)
    assert_equal 1, Sidekiq::Queue.new.size
    row = first_of(jid, "stuck")
    assert_equal ["reported_lost", true], [row["error"]["reason"], row["error"]["message"].include?("put back")]
    File.unlink(path)
    start_sidekiq
    assert_equal 1, first_of(jid, "completed")["attempt"]
  end

  def test_a_worker_that_is_killed_is_found_by_its_pid
    jid = Waits.perform_async(file("wait"))
    first_of(jid, "running")
    stop("KILL", @sidekiq)
    assert_equal "process_gone", first_of(jid, "stuck")["error"]["reason"]
  end

  def test_active_job_on_sidekiq_knows_both_kinds_of_retry
    path = file("raise")
    plain, retried = PlainJob.perform_later(path), RetriedJob.perform_later(path)
    Support.wait_until("retry_on") { Sidekiq::ScheduledSet.new.size == 1 }
    Sidekiq::ScheduledSet.new.each(&:add_to_queue)
    wait_for_retries(2) # retry_on gave up and left it to sidekiq: both wait there
    File.unlink(path)
    retry_by_time
    raised = "the file is there"
    assert_equal [[1, "failed", "retryable", raised], [2, "completed", nil, nil]], executions_of(plain.job_id, 2)
    assert_equal [[1, "failed", "retryable", raised], [2, "failed", "retryable", raised], [3, "completed", nil, nil]],
                 executions_of(retried.job_id, 3)
    assert_equal %w[PlainJob RetriedJob], daemon.runs.values.map { |run| run["council"] }.uniq.sort
    assert_equal(RunRecorder::ActiveJob.run_id(plain.job_id), rows_of(plain.job_id).last["parent_attempt_run_id"])
  end

  private

  # By its time, then by a click on "Retry", which makes sidekiq count one less, then by its time for the last time.
  def check_retries(jid)
    wait_for_retries(1)
    retry_by_time
    Support.wait_until("the job to die") { Sidekiq::DeadSet.new.size == 1 }
    raised = "the file is there"
    assert_equal [[1, "failed", "retryable", raised], [2, "failed", "dead", raised]], executions_of(jid, 2)
    assert_equal(RunRecorder::Sidekiq.run_id("jid" => jid), rows_of(jid).last["parent_attempt_run_id"])
    File.unlink(File.join(daemon.folder, "raise"))
    Sidekiq::DeadSet.new.first.retry
    assert_equal [2, "completed", nil, nil], executions_of(jid, 3).last
  end

  def wait_for_retries(count)
    Support.wait_until("#{count} retries") { Sidekiq::RetrySet.new.size == count }
  end

  # What sidekiq does when a retry is due.
  def retry_by_time
    Sidekiq::RetrySet.new.to_a.each { |entry| entry.delete && Sidekiq::Client.push(entry.item) }
  end

  def first_of(jid, status)
    daemon.wait_for(RunRecorder::Sidekiq.run_id("jid" => jid), status)
  end

  # [attempt, status, the job's state, message] of each, once so many are finished.
  def executions_of(job_id, count)
    Support.wait_until("#{count} executions of #{job_id}") { rows_of(job_id).count { |row| row["finalized_at"] } == count }
    rows_of(job_id).map do |row|
      [*row.values_at("attempt", "status", "oban_job_state_at_finalize"), row.dig("error", "errors", 0, "message")]
    end
  end

  def rows_of(job_id)
    daemon.runs.values.select { |row| row["job_id"] == job_id }.sort_by { |row| row["started_at"] }
  end

  # As it was before the daemon put it into an object.
  def plain(value)
    value.is_a?(Hash) && value.keys == ["value"] ? value["value"] : value
  end

  def file(name)
    File.join(daemon.folder, name).tap { |path| File.write(path, "") }
  end

  def start_redis
    path = File.join(daemon.folder, "redis.sock")
    @redis = spawn([REDIS, "redis-server"], "--port", "0", "--unixsocket", path, "--save", "", "--dir", daemon.folder,
                   out: File::NULL, err: File::NULL, in: File::NULL, pgroup: true)
    Support.wait_until("redis-server") { Support.accepts?(path) }
    ENV["TEST_REDIS_URL"] = "unix://#{path}"
    require JOBS
    Sidekiq.redis = { url: ENV["TEST_REDIS_URL"] }
    ActiveJob::Base.logger = nil
    RunRecorder.configure(socket: daemon.socket)
  end

  # One thread: an idle second one, stopped while it waits for a job, may take the job that was just put back with it.
  def start_sidekiq
    environment = Support::Daemon::CLEAN.merge("RUN_RECORDER_SOCKET_PATH" => daemon.socket)
    @sidekiq = spawn(environment, "sidekiq", "-r", JOBS, "-c", "1", "-t", "1", "-q", "default",
                     %i[out err] => File.join(daemon.folder, "sidekiq.log"), in: File::NULL, pgroup: true)
  end

  def stop(signal, pid)
    return unless pid

    Process.kill(signal, pid)
    Process.wait(pid)
  rescue Errno::ESRCH, Errno::ECHILD
    nil # it was stopped before
  end
end
