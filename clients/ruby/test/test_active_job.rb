# frozen_string_literal: true

require_relative "support"

begin
  require "active_job"
rescue LoadError => e
  ACTIVE_JOB_MISSING = e.message
  warn("test_active_job.rb is skipped: #{e.message}")
end

# ActiveJob with the adapters that need no server; every row is compared with what ActiveJob did. (test_sidekiq.rb has Sidekiq.)
class TestActiveJob < Minitest::Test
  include Support::WithDaemon

  def setup
    skip("activejob is not installed: #{ACTIVE_JOB_MISSING}") if defined?(ACTIVE_JOB_MISSING)
    super
    require_relative "active_job_jobs"
    ActiveJob::Base.logger = nil
    ActiveJob::Base.queue_adapter = :inline
    attach
  end

  def test_a_job_that_succeeds
    attach(input: true)
    job = Plain.perform_later("fine", { "n" => 1 })
    row = only_run_of(job)
    assert_equal ["Plain", "completed", 1, "active_job", nil], row.values_at("council", "status", "attempt", "queue", "result")
    assert_equal ["fine", 1], [plain(row["input"])[0], plain(row["input"])[1]["n"]]
    assert_equal({ "done" => 1 }, row["progress"])
  end

  def test_an_error_that_nobody_handles_is_raised_as_it_was
    error = assert_raises(KeyError) { Plain.perform_later("raise") }
    assert_equal "no such key", error.message
    assert_equal [[1, "failed", nil, "no such key"]], executions
  end

  def test_retry_on_makes_a_chain_and_ends_with_the_error
    ActiveJob::Base.queue_adapter = queue = ActiveJob::QueueAdapters::TestAdapter.new
    Retried.perform_later("raise")
    3.times { perform_next(queue) }
    assert_equal [[1, "failed", "retryable", "again"], [2, "failed", "retryable", "again"], [3, "failed", "discarded", "again"]], executions
    assert_equal [nil, rows[0]["run_id"], rows[1]["run_id"]], rows.map { |row| row["parent_attempt_run_id"] }
  end

  def test_retry_on_with_a_block_that_handles_the_last_error
    ActiveJob::Base.queue_adapter = queue = ActiveJob::QueueAdapters::TestAdapter.new
    RetriedWithBlock.perform_later
    2.times { perform_next(queue) }
    assert_equal [[1, "failed", "retryable", "again"], [2, "failed", "discarded", "again"]], executions
  end

  def test_discard_on_fails_without_raising
    Discarded.perform_later
    assert_equal [[1, "failed", "discarded", "unwanted"]], executions
  end

  def test_a_callback_that_halts_the_job_cancels_it
    Halted.perform_later
    assert_equal(%w[cancelled], rows.map { |row| row["status"] })
  end

  def test_arguments_that_cannot_be_read_back_fail
    assert_raises(ActiveJob::DeserializationError) do
      Plain.deserialize("job_class" => "Plain", "job_id" => "j", "arguments" => [{ "_aj_globalid" => "gid://x/None/1" }]).perform_now
    end
    assert_equal [[1, "failed"]], executions.map { |execution| execution.first(2) }
  end

  def test_a_job_inside_of_a_job_has_its_own_outcome
    Outer.perform_later
    assert_equal({ "Outer" => "completed", "Discarded" => "failed" }, rows.to_h { |row| row.values_at("council", "status") })
  end

  def test_the_async_adapter
    ActiveJob::Base.queue_adapter = adapter = ActiveJob::QueueAdapters::AsyncAdapter.new
    jobs = Array.new(20) { Plain.perform_later("fine") }
    adapter.shutdown(wait: true)
    assert_equal [20, %w[completed]], [jobs.size, rows.map { |row| row["status"] }.uniq]
  end

  def test_enqueued_jobs_are_queued_runs_where_asked_for
    attach(queued: true)
    ActiveJob::Base.queue_adapter = queue = ActiveJob::QueueAdapters::TestAdapter.new
    Plain.perform_later("fine")
    assert_equal(%w[queued], rows.map { |row| row["status"] })
    perform_next(queue)
    assert_equal(%w[completed], rows.map { |row| row["status"] })
  end

  def test_arguments_stay_out_unless_asked_for
    attach(council: ->(job) { "job #{job.class}" }, ignore: ->(job) { job.is_a?(Discarded) })
    Plain.perform_later("secret")
    Discarded.perform_later
    assert_equal [["job Plain", nil]], rows.map { |row| row.values_at("council", "input") }
  end

  private

  def attach(**options)
    RunRecorder::ActiveJob.attach({ recorder: recorder }.merge(options))
  end

  def perform_next(queue)
    payload = queue.enqueued_jobs.shift
    ActiveJob::Base.execute(payload.transform_keys(&:to_s))
  rescue RuntimeError
    nil # what a backend would see
  end

  def only_run_of(job)
    assert recorder.flush(Support::DEADLINE_S)
    daemon.run(RunRecorder::ActiveJob.run_id(job.job_id))
  end

  def rows
    assert recorder.flush(Support::DEADLINE_S), @log.string
    daemon.runs.values.sort_by { |row| row["started_at"].to_s }
  end

  def executions
    rows.map { |row| [*row.values_at("attempt", "status", "oban_job_state_at_finalize"), row.dig("error", "errors", 0, "message")] }
  end

  def plain(value)
    value.is_a?(Hash) && value.keys == ["value"] ? value["value"] : value
  end
end
