# frozen_string_literal: true

require_relative "support"
require "timeout"

# What is recorded of work, by the way it ends, against a real daemon.
class TestRuns < Minitest::Test
  include Support::WithDaemon

  def test_work_that_returns_completes_with_its_value
    assert_equal 42, recorder.run("nightly", run_id: "r", input: { rows: 3 }, attempt: 2, parent: "before", job_id: 7) { 42 }
    row = settled("r")
    assert_equal %w[nightly completed], row.values_at("council", "status")
    assert_equal [{ "rows" => 3 }, { "value" => 42 }, 2, "before", "7"],
                 row.values_at("input", "result", "attempt", "parent_attempt_run_id", "job_id")
  end

  def test_a_result_that_was_set_counts_before_the_value
    recorder.run("nightly", run_id: "r") { |run| run.result = { rows: 9 } and nil }
    assert_equal({ "rows" => 9 }, settled("r")["result"])
  end

  def test_details_reach_the_row
    recorder.run("nightly", run_id: "r") do |run|
      run.progress(3, 10, "pages")
      run.usage(input_tokens: 5)
      run.usage(input_tokens: 7, cost_usd: 0.5)
      run.event("page.read", { page: 3 })
      run.heartbeat
    end
    row = settled("r")
    assert_equal({ "done" => 3, "total" => 10, "unit" => "pages" }, row["progress"])
    assert_equal({ "input_tokens" => 12, "cost_usd" => 0.5 }, row["usage"])
    assert_includes daemon.history("r").map { |event| event["type"] }, "page.read"
  end

  def test_work_that_raises_fails_and_its_exception_comes_out
    error = RuntimeError.new("no such table")
    raised = assert_raises(RuntimeError) { recorder.run("nightly", run_id: "r") { raise error } }
    assert_same error, raised
    failure = settled("r")["error"]["errors"].first
    assert_equal ["RuntimeError", "no such table"], failure.values_at("kind", "message")
    assert_includes failure["stacktrace"], __method__.to_s
  end

  def test_interrupts_and_signals_are_cancelled
    assert_raises(Interrupt) { recorder.run("nightly", run_id: "i") { raise Interrupt } }
    assert_raises(SignalException) { recorder.run("nightly", run_id: "s") { raise SignalException, "SIGTERM" } }
    assert_equal %w[cancelled cancelled], [settled("i")["status"], settled("s")["status"]]
  end

  def test_exit_completes_with_0_and_fails_with_others
    assert_raises(SystemExit) { recorder.run("nightly", run_id: "0") { exit } }
    assert_raises(SystemExit) { recorder.run("nightly", run_id: "3") { exit 3 } }
    assert_equal "completed", settled("0")["status"]
    assert_equal ["exit", 3], settled("3")["error"]["errors"].first.values_at("kind", "status")
  end

  def test_leaving_the_block_completes
    recorder.run("nightly", run_id: "break") { break }
    catch(:done) { recorder.run("nightly", run_id: "throw") { throw :done } }
    returned_from
    assert_equal %w[completed] * 3, %w[break throw return].map { |id| settled(id)["status"] }
  end

  def test_a_timeout_around_or_inside_fails
    assert_raises(Timeout::Error) { Timeout.timeout(0.05) { recorder.run("nightly", run_id: "around") { sleep } } }
    assert_raises(Timeout::Error) { recorder.run("nightly", run_id: "inside") { Timeout.timeout(0.05) { sleep } } }
    recorder.run("nightly", run_id: "later") do
      begin
        Timeout.timeout(0.05) { sleep }
      rescue Timeout::Error
        break
      end
    end
    assert_equal %w[failed failed completed], %w[around inside later].map { |id| settled(id)["status"] }
    assert_equal(%w[Timeout::Error] * 2, %w[around inside].map { |id| settled(id)["error"]["errors"].first["kind"] })
  end

  def test_a_killed_thread_is_lost
    begun = Queue.new
    thread = Thread.new { recorder.run("nightly", run_id: "r") { begun << 1 and sleep } }
    begun.pop
    thread.kill.join
    row = settled("r", "stuck")
    assert_equal ["reported_lost", true], [row["error"]["reason"], row["error"]["message"].include?("killed")]
  end

  def test_a_forked_child_sends_its_own_runs
    recorder.run("nightly", run_id: "r") { Process.wait(fork { recorder.run("child", run_id: "c") { 1 } }) }
    assert_equal %w[completed completed], [settled("r")["status"], settled("c")["status"]]
    assert_equal 2, recorder.stats[:emitted]
  end

  def test_a_child_that_was_forked_inside_does_not_end_the_run
    ruby('require "run_recorder"; RunRecorder.run("nightly", run_id: "r") { exit 3 if fork.nil?; Process.wait; 5 }')
    assert_equal({ "value" => 5 }, daemon.wait_for("r", "completed")["result"])
    assert_equal(%w[run_started run_completed], daemon.history("r").map { |event| event["type"] })
  end

  def test_a_signal_handler_may_call_everything
    answers = nil
    before = trap("USR1") do
      recorder.event("r", "run_started", council: "from a handler")
      recorder.run("handler", run_id: "r2") { 1 }
      answers = [recorder.flush(30), recorder.stats]
    end
    Process.kill("USR1", Process.pid)
    Support.wait_until("the handler") { answers }
    assert_equal true, answers.first
    assert_equal %w[running completed], [settled("r", "running")["status"], settled("r2")["status"]]
    assert_equal 3, recorder.stats[:acknowledged]
  ensure
    trap("USR1", before || "DEFAULT")
  end

  def test_the_end_of_a_process_sends_what_is_left
    status = ruby('require "run_recorder"; RunRecorder.run("nightly", run_id: "r") { 1 }; exit 4')
    assert_equal 4, status.exitstatus, @output
    assert_equal "completed", daemon.wait_for("r", "completed")["status"]
  end

  def test_a_process_that_is_terminated_cancels_its_run
    status = ruby('require "run_recorder"; RunRecorder.run("nightly", run_id: "r") { Process.kill("TERM", Process.pid); sleep }')
    assert_equal Signal.list["TERM"], status.termsig, @output
    assert_equal "cancelled", daemon.wait_for("r", "cancelled")["status"]
  end

  def test_events_of_other_exit_hooks_are_sent_too
    ruby('require "run_recorder"; at_exit { RunRecorder.event("late", "run_completed") }; RunRecorder.event("r", "run_completed")')
    assert daemon.wait_for("late", "completed")
  end

  def test_a_process_that_ends_while_the_daemon_is_away_leaves_a_file_for_the_next_client
    daemon.stop
    ruby('require "run_recorder"; RunRecorder.configure(flush_timeout: 0.1); RunRecorder.run("nightly", run_id: "r") { 1 }')
    assert_match(%r{2 events could not be sent; they are kept in #{ENV["XDG_STATE_HOME"]}/run-recorder/unsent/\S+\.ndjson$}, @output)
    daemon.start
    recorder.run("nightly", run_id: "next") { 1 }
    assert_equal "completed", settled("r")["status"]
    assert_equal 4, recorder.stats[:acknowledged]
    Support.wait_until("the file to be removed") { Dir[File.join(ENV["XDG_STATE_HOME"], "run-recorder/unsent/*.ndjson")].empty? }
  end

  def test_a_timeout_that_hits_while_an_event_is_made_reaches_the_work
    slow = Object.new
    def slow.to_s
      sleep 0.3 and "slow"
    end
    assert_raises(Timeout::Error) { Timeout.timeout(0.05) { recorder.event("r", "step", payload: { slow: slow }) && sleep } }
    assert_equal true, recorder.flush(30)
    assert_equal 1, recorder.stats[:acknowledged]
  end

  NO_DESCRIPTOR = <<~RUBY
    require "run_recorder"
    taken = []
    Process.setrlimit(:NOFILE, 64, 64)
    begin
      loop { taken << File.open(File::NULL) }
    rescue SystemCallError
      nil
    end
  RUBY

  def test_without_a_free_descriptor_events_are_buffered_and_sent_later
    ruby(NO_DESCRIPTOR + <<~RUBY)
      RunRecorder.run("nightly", run_id: "r" * 300) { |run| run.progress(1) }
      p RunRecorder.flush(0), RunRecorder.stats.values_at(:emitted, :waiting)
      taken.each(&:close)
      p RunRecorder.flush(60), RunRecorder.stats.values_at(:emitted, :acknowledged)
    RUBY
    assert_equal ["false", "[3, 3]", "true", "[3, 3]"], @output.lines.map(&:chomp).grep_v(/run_recorder/)
    assert_equal [1, 1], [@output.scan("nothing can be sent now (too many open files)").size, @output.scan("can be sent again").size]
  end

  def test_the_same_in_a_forked_child
    ruby(NO_DESCRIPTOR + <<~RUBY)
      taken.pop(8).each(&:close)
      RunRecorder.run("nightly", run_id: "parent") { 1 }
      RunRecorder.flush(60)
      begin
        loop { taken << File.open(File::NULL) }
      rescue SystemCallError
        nil
      end
      child = fork do
        begin
          loop { taken << File.open(File::NULL) }
        rescue SystemCallError
          nil
        end
        RunRecorder.run("nightly", run_id: "child") { 1 }
        p RunRecorder.stats.values_at(:emitted, :waiting)
        taken.each(&:close)
        p RunRecorder.flush(60), RunRecorder.stats.values_at(:emitted, :acknowledged)
      end
      Process.wait(child)
    RUBY
    assert_equal ["[2, 2]", "true", "[2, 2]"], @output.lines.map(&:chomp).grep_v(/run_recorder/)
    assert_equal "completed", daemon.wait_for("child", "completed")["status"]
  end

  def test_any_default_encodings
    ruby(<<~'RUBY')
      require "run_recorder"
      Encoding.default_external = Encoding.default_internal = "UTF-16LE"
      utf16 = ->(text) { text.encode("UTF-16LE") }
      RunRecorder.run("nightly", run_id: utf16.("r")) { |run| run.event(utf16.("page.read"), { utf16.("é") => :x }, id: utf16.("one")) and 1 }
      print RunRecorder.flush(30), RunRecorder.stats.values_at(:emitted, :acknowledged), "
"
      away = RunRecorder::Recorder.new(socket: utf16.("/nonexistent/é"))
      away.event("r", "step")
      print away.close(0), away.stats.values_at(:emitted, :kept), "
"
    RUBY
    assert_equal ["true[3, 3]", "false[1, 1]"], @output.lines.map(&:chomp).grep_v(/run_recorder/), @output
    assert_equal({ "\u00E9" => "x" }, daemon.history("r").find { |event| event["type"] == "page.read" }["payload"])
    left = Dir[File.join(ENV["XDG_STATE_HOME"], "run-recorder/unsent/+nonexistent+%C3%A9@*.ndjson")]
    assert_equal 1, left.size
    File.unlink(*left)
  end

  def test_inside_a_ractor_nothing_is_recorded_and_nothing_raises
    skip("Ruby has no Ractor") unless defined?(Ractor)
    ruby(<<~'RUBY')
      require "run_recorder"
      ractor = Ractor.new do
        value = RunRecorder.run("nightly") { |run| run.progress(1) || run.usage(a: 1) || RunRecorder.current.event("step", { a: 1 }) || 7 }
        [value, RunRecorder.event("r", "step", payload: 1), RunRecorder.flush(1), RunRecorder.stats, RunRecorder.close].inspect
      end
      puts ractor.respond_to?(:take) ? ractor.take : ractor.value
    RUBY
    assert_includes @output, "[7, nil, true, {}, true]"
  end

  def test_disabled_does_nothing
    ENV["RUN_RECORDER_DISABLED"] = "1"
    off = RunRecorder::Recorder.new(socket: "/nonexistent")
    assert_equal 1, off.run("nightly") { |run| run.progress(1) || 1 }
    assert_equal [true, true], [off.flush, off.close]
  ensure
    ENV.delete("RUN_RECORDER_DISABLED")
  end

  private

  def returned_from
    recorder.run("nightly", run_id: "return") { return }
  end

  # The row of a run whose events are all acknowledged.
  def settled(id, status = nil)
    assert recorder.flush(Support::DEADLINE_S), @log.string
    status ? daemon.wait_for(id, status) : daemon.run(id)
  end
end
