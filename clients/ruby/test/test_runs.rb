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

  Ended = Class.new(StandardError)

  # At each line of the client in turn.
  def test_an_interrupt_anywhere_in_the_client_leaves_no_run_open
    lines = (1..2000).find { |number| interrupted_at(number) == :never }
    assert_operator lines, :>, 30
    assert recorder.flush(Support::DEADLINE_S), @log.string
    statuses = daemon.runs.values.map { |row| row["status"] }.tally
    assert_equal %w[completed failed], statuses.keys.sort, statuses.inspect
  end

  def test_the_work_can_be_interrupted_unless_the_caller_defers_it
    reached = []
    assert_raises(Ended) { recorder.run("nightly", run_id: "now") { Thread.current.raise(Ended) or reached << "now" } }
    assert_raises(Ended) do
      Thread.handle_interrupt(Ended => :never) { recorder.run("nightly", run_id: "later") { Thread.current.raise(Ended) or reached << "later" } }
    end
    assert_equal [%w[later], %w[failed completed]], [reached, %w[now later].map { |id| settled(id)["status"] }]
  end

  def test_a_signal_that_hits_while_the_end_is_made_comes_out_behind_it
    before = trap("USR1") { raise Interrupt }
    asked = 0
    result = Object.new
    result.define_singleton_method(:to_s) do
      Process.kill("USR1", Process.pid) if (asked += 1) == 1
      asked == 1 ? sleep : "read again"
    end
    assert_raises(Interrupt) { recorder.run("nightly", run_id: "r") { result } }
    assert_equal ["completed", { "value" => "read again" }], settled("r").values_at("status", "result")
  ensure
    trap("USR1", before || "DEFAULT")
  end

  def test_the_process_that_goes_on_after_process_daemon_sends_everything
    ruby(<<~RUBY)
      require "run_recorder"
      RunRecorder.event("before", "run_completed")
      RunRecorder.run("nightly", run_id: "outer") do
        RunRecorder.run("nightly", run_id: "r") do
          Process.daemon(true)
          sleep 0.05 until File.exist?(#{File.join(daemon.folder, "go").inspect})
          7
        end
      end
    RUBY
    sleep 3 # longer than the daemon's grace: the parent is gone, and the runs live
    %w[r outer].each { |id| daemon.wait_for(id, "running") }
    File.write(File.join(daemon.folder, "go"), "")
    assert_equal({ "value" => 7 }, daemon.wait_for("r", "completed")["result"])
    assert_equal %w[completed completed], %w[before outer].map { |id| daemon.wait_for(id, "completed")["status"] }
  end

  def test_process_daemon_in_a_forked_child_leaves_the_parents_run_alone
    ruby(<<~RUBY)
      require "run_recorder"
      RunRecorder.run("nightly", run_id: "r") do
        Process.wait(fork { Process.daemon(true, true) and RunRecorder.run("child", run_id: "c") { 1 } and next })
        5
      end
    RUBY
    daemon.wait_for("c", "completed")
    assert_equal({ "value" => 5 }, daemon.wait_for("r", "completed")["result"])
    assert_equal(%w[run_started run_completed], daemon.history("r").map { |event| event["type"] })
  end

  def test_exec_sends_what_waits_first
    ruby(<<~RUBY)
      require "run_recorder"
      RunRecorder.run("nightly", run_id: "failed") do
        begin
          exec "/nonexistent"
        rescue SystemCallError
          5
        end
      end
      RunRecorder.run("nightly", run_id: "r") { exec "echo", "the other program" }
    RUBY
    assert_equal "the other program", @output.chomp
    assert_equal({ "value" => 5 }, daemon.run("failed")["result"])
    assert_equal(%w[run_started], daemon.history("r").map { |event| event["type"] }.first(1))
  end

  def test_exec_while_the_daemon_is_away_keeps_what_waits
    daemon.stop
    %w[exec Process.exec Kernel.exec].each do |call|
      ruby(%(require "run_recorder"; RunRecorder.configure(flush_timeout: 0.1); RunRecorder.event("r", "step"); #{call} "true"))
      assert_includes @output, "1 event could not be sent; it is kept in"
    end
    FileUtils.rm_rf(File.join(ENV["XDG_STATE_HOME"], "run-recorder"))
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

  # Interrupts this thread at that line of the client, counted from the beginning of a run. :never where it has less.
  def interrupted_at(number)
    me, left = Thread.current, number
    trace = TracePoint.new(:line) do |point|
      next unless Thread.current == me && point.path.start_with?(Support::WithDaemon::LIB) && (left -= 1).zero?

      me.raise(Ended)
    end
    trace.enable { recorder.run("nightly", run_id: "at line #{number}", input: { a: 1 }) { |run| run.usage(a: 1) || 1 } }
    left.positive? ? :never : flunk("the interrupt at line #{number} was lost")
  rescue Ended
    assert_nil RunRecorder::Run.current
  end

  def returned_from
    recorder.run("nightly", run_id: "return") { return }
  end

  # The row of a run whose events are all acknowledged.
  def settled(id, status = nil)
    assert recorder.flush(Support::DEADLINE_S), @log.string
    status ? daemon.wait_for(id, status) : daemon.run(id)
  end
end
