# frozen_string_literal: true

require_relative "support"

# How events wait, are sent again and are kept, against a daemon of the test's own that answers as it is told. No real one.
class TestSender < Minitest::Test
  # Accepts one connection after the other, and keeps the lines it got.
  class Fake
    attr_reader :lines

    def initialize(path)
      @server = UNIXServer.new(path)
      @lines = Queue.new
    end

    # Reads `count` lines of the connection, and returns the events.
    def read(count)
      @connection ||= @server.accept
      Array.new(count) { JSON.parse(@connection.gets) }
    end

    def answer(*answers)
      answers.each { |answer| @connection.puts(JSON.generate(answer)) }
    end

    def error(line, code, message = "said so")
      answer({ "error" => { "line" => line, "code" => code, "message" => message } })
    end

    def hang_up
      @connection.close
      @connection = nil
    end

    def close
      @connection&.close
      @server.close
    end
  end

  # Raises whatever it is asked.
  class Raises < BasicObject
    def method_missing(*)
      ::Kernel.raise ::ArgumentError, "asked"
    end

    %i[nil? is_a? respond_to? instance_of? to_s == ! equal?].each { |name| define_method(name) { |*| ::Kernel.raise ::ArgumentError, "asked" } }
  end

  def setup
    @folder = Dir.mktmpdir("run-recorder-test")
    @path = File.join(@folder, "events.sock")
    @log = StringIO.new
    @state, ENV["XDG_STATE_HOME"] = ENV["XDG_STATE_HOME"], File.join(@folder, "state")
  end

  def teardown
    @recorder&.close(0)
    @fake&.close
    ENV["XDG_STATE_HOME"] = @state
    FileUtils.rm_rf(@folder)
  end

  def test_what_is_not_acknowledged_is_sent_again_over_the_next_connection
    3.times { |n| recorder.event("r", "step#{n}") }
    sent = fake.read(3)
    fake.answer({ "acked" => 1 })
    settled(1)
    fake.hang_up
    assert_equal sent.last(2), fake.read(2)
    fake.answer({ "acked" => 2 })
    settled(3)
  end

  def test_an_event_refused_for_its_content_is_reduced_in_its_place_and_then_counted
    recorder.event("r", "run_completed", result: "x", job_state: "done")
    fake.read(1)
    fake.error(1, "invalid_event")
    fake.answer({ "acked" => 1 })
    again = fake.read(1).first
    assert_equal [nil, "done", true], again.values_at("result", "job_state", "truncated")
    fake.error(2, "invalid_event")
    fake.answer({ "acked" => 2 })
    Support.wait_until("the refusal") { stats[:refused] == 1 }
    assert_equal({ emitted: 1, acknowledged: 0, refused: 1, dropped: 0, kept: 0, waiting: 0, truncated: 1 }, stats)
    assert_includes @log.string, "said so"
  end

  def test_a_full_spool_gets_lifecycle_events_and_one_detail
    recorder.event("r", "step1")
    recorder.event("r", "step2")
    fake.read(2)
    fake.error(1, "spool_full")
    fake.error(2, "spool_full")
    fake.answer({ "acked" => 2 })
    Support.wait_until("the log") { @log.string.include?("takes no events") }
    recorder.event("r", "run_completed")
    assert_equal %w[run_completed step1], fake.read(2).map { |event| event["type"] }
    fake.answer({ "acked" => 4 })
    assert_equal %w[step2], fake.read(1).map { |event| event["type"] }
    fake.answer({ "acked" => 5 })
    settled(3)
    assert_equal 1, @log.string.scan("takes no events").size
  end

  def test_a_forbidden_sender_says_so_once
    recorder.event("r", "step")
    fake.read(1)
    2.times do
      fake.error(0, "forbidden")
      fake.hang_up
      fake.read(1)
    end
    assert_equal 1, @log.string.scan("forbidden").size
  end

  def test_answers_that_are_no_json_end_the_connection
    recorder.event("r", "step")
    sent = fake.read(1)
    fake.instance_variable_get(:@connection).puts("what?")
    fake.hang_up
    assert_equal sent, fake.read(1)
  end

  def test_a_small_buffer_drops_details_first_and_says_so_once
    small = recorder(buffer_bytes: 20_000)
    20.times { |n| small.event("r#{n}", "run_started", council: "c") }
    500.times { small.event("r1", "step", payload: { text: "x" * 100 }) }
    assert_equal(%w[run_started], fake.read(20).map { |event| event["type"] }.uniq)
    count = stats[:waiting] - 20
    fake.read(count)
    fake.answer({ "acked" => 20 + count })
    settled(20 + count)
    assert_equal 520, stats.values_at(:acknowledged, :dropped).sum
    Support.wait_until("the end of it") { @log.string.include?("events were dropped") }
    assert_equal 1, @log.string.scan("is full").size
  end

  def test_close_keeps_what_is_left_in_a_file_that_only_the_owner_reads
    recorder.event("r", "run_completed", result: "\u00E9")
    assert_equal false, recorder.close(0)
    assert_equal [1, 0], stats.values_at(:kept, :waiting)
    file = unsent.first
    name = File.basename(file)
    assert_match(/\A#{Regexp.escape(@path.tr("/", "+"))}@[0-9a-z-]+\.ndjson\z/, name)
    assert_equal [0o100600, 0o40700], [File.stat(file).mode, File.stat(File.dirname(file)).mode]
    assert_equal "\u00E9", JSON.parse(File.read(file, encoding: "UTF-8"))["result"]
    assert_includes @log.string, "1 event could not be sent; it is kept in #{file}\n"
  end

  def test_after_close_events_are_dropped_and_it_is_said_once
    recorder.close(0)
    2.times { recorder.event("r", "late") }
    assert_equal [2, 2], stats.values_at(:emitted, :dropped)
    assert_equal 1, @log.string.scan("the client is closed; events are dropped").size
    assert_equal [true, true], [recorder.flush(0), recorder.close(0)]
    refute_includes @log.string, "full"
  end

  def test_events_dropped_from_a_full_buffer_are_said_at_the_end
    recorder(buffer_bytes: 5_000)
    100.times { recorder.event("r", "step") }
    recorder.close(0)
    assert_operator stats[:dropped], :>, 50
    assert_includes @log.string, "the buffer was full; #{stats[:dropped]} events were dropped"
    recorder.close(0)
    assert_equal 1, @log.string.scan("were dropped").size
  end

  def test_events_dropped_from_a_full_buffer_are_said_when_the_process_ends
    script = 'require "run_recorder"; RunRecorder.configure(socket: ARGV[0], buffer_bytes: 5_000, flush_timeout: 0); ' \
             '100.times { RunRecorder.event("r", "step") }; puts "dropped=#{RunRecorder.stats[:dropped]}"'
    output = IO.popen([RbConfig.ruby, "-I", Support::WithDaemon::LIB, "-e", script, @path], err: %i[child out], in: File::NULL, &:read)
    assert_includes output, "the buffer was full; #{output[/dropped=(\d+)/, 1]} events were dropped"
  end

  def test_without_a_thread_events_wait_for_the_next_try
    Thread.stub(:new, ->(*) { raise ThreadError, "no more threads" }) do
      2.times { recorder.event("r", "step") }
      assert_equal false, recorder.flush(0)
    end
    assert_equal [2, 2], stats.values_at(:emitted, :waiting)
    assert_equal 1, @log.string.scan("nothing can be sent now (no more threads)").size
    fake
    recorder.flush(0)
    fake.read(2)
    fake.answer({ "acked" => 2 })
    settled(2)
    assert_includes @log.string, "events can be sent again"
  end

  def test_the_next_client_sends_the_file_first_and_removes_it
    recorder.event("r", "run_completed")
    recorder.close(0)
    @recorder = nil
    recorder.event("r2", "run_completed")
    assert_equal(%w[r r2], fake.read(2).map { |event| event["run_id"] })
    assert_equal 1, unsent.size
    fake.answer({ "acked" => 2 })
    settled(2)
    Support.wait_until("the file to be removed") { unsent.empty? }
  end

  def test_all_files_of_earlier_clients_are_sent_and_a_fifo_is_passed_over
    3.times { |n| leave("r#{n}") }
    fifo = unsent.first.sub(/@.*/, "@fifo.ndjson")
    File.mkfifo(fifo)
    recorder.event("last", "run_completed")
    [[2, 2], [1, 3], [1, 4]].each { |count, acked| fake.read(count) && fake.answer({ "acked" => acked }) }
    settled(4)
    Support.wait_until("the files to be removed") { unsent == [fifo] }
  end

  # Somebody holds it open, so that no open waits, with or without the repair.
  def test_a_fifo_that_takes_the_place_of_a_file_is_no_file
    2.times { |n| leave("r#{n}") }
    files = RunRecorder::Unsent.new(@path)
    buffer = RunRecorder::Buffer.new(1_000_000)
    earlier = RunRecorder::Earlier.new(files, buffer)
    earlier.look
    path = files.files.first
    File.unlink(path)
    File.mkfifo(path)
    File.open(path, File::RDWR | File::NONBLOCK) do
      assert_raises(SystemCallError) { RunRecorder::Unsent::Reader.new(path) }
      earlier.feed
    end
    assert_equal 1, buffer.earlier_left
  end

  def test_a_client_that_ends_before_the_file_is_settled_leaves_it
    recorder.event("r", "run_completed")
    recorder.close(0)
    @recorder = nil
    recorder.event("r2", "run_completed")
    fake.read(2)
    recorder.close(0)
    assert_equal [0, 2], stats.values_at(:waiting, :kept)
    assert_equal %w[r r2], unsent.flat_map { |path| File.readlines(path) }.map { |line| JSON.parse(line)["run_id"] }.sort
  end

  def test_threads_share_one_connection
    recorder
    Array.new(8) { |n| Thread.new { 50.times { |m| recorder.event("r#{n}", "step", payload: { m: m }) } } }.each(&:join)
    events = fake.read(400)
    fake.answer({ "acked" => 400 })
    settled(400)
    assert_equal 400, events.map { |event| event["id"] }.uniq.size
    events.group_by { |event| event["run_id"] }.each_value { |own| assert_equal((0...50).to_a, own.map { |event| event["payload"]["m"] }) }
  end

  def test_a_folder_that_others_may_write_is_not_used
    FileUtils.mkdir_p(File.join(ENV["XDG_STATE_HOME"], "run-recorder", "unsent"))
    File.chmod(0o777, File.join(ENV["XDG_STATE_HOME"], "run-recorder", "unsent"))
    recorder.event("r", "run_completed")
    recorder.close(0)
    assert_equal [1, 0], stats.values_at(:dropped, :kept)
    assert_empty unsent
    assert_match(/1 event could not be sent and could not be kept \(.*unsent is no folder of this user's alone\): it is lost$/, @log.string)
  end

  def test_without_home_the_system_is_asked
    home = ENV["HOME"]
    [nil, "", "relative"].each do |value|
      ENV["XDG_STATE_HOME"] = ENV["HOME"] = value
      assert_equal "#{Etc.getpwuid(Process.euid).dir}/.local/state/run-recorder/unsent", RunRecorder::Unsent.new(@path).send(:folder_path)
    end
  ensure
    ENV["HOME"] = home
  end

  def test_a_thousand_events_cost_little_while_nobody_answers
    recorder.event("r", "run_started")
    fake.read(1)
    best = Array.new(8) { cost_of { 1000.times { |n| recorder.event("r", "step", payload: { n: n }, progress: { done: n }) } } }.min
    assert_operator best, :<, 2 # seconds: the shared cases measure, this shows that no call waits, on a busy machine too
  end

  def test_nothing_that_is_given_raises
    [nil, "", Object.new, Float::NAN, [1], "\xFF", BasicObject.new, Raises.new].each do |odd|
      recorder.run(odd, run_id: odd) do |run|
        assert_nil run.event(odd, odd) || run.usage(odd) || run.usage({ odd.__id__ => odd }, a: odd) || run.heartbeat(expires_in: odd)
        run.result = odd
      end
      RunRecorder::Recorder.new(socket: odd, buffer_bytes: odd, flush_timeout: odd, max_event_bytes: odd, logger: Logger.new(@log)).flush(odd)
      assert_nil recorder.event(odd, odd, odd)
      recorder.event("r", odd, attempt: odd, usage: odd, errors: odd, progress: odd, at: odd, worker_pid: odd, id: odd, council: odd)
      assert_equal 1, recorder.run(odd, run_id: odd, parent: odd, attempt: odd) { |run| run.progress(odd, odd, odd) || run.usage(odd) || 1 }
      recorder.flush(0)
    end
    counts = stats
    refute_includes @log.string, "could not be made"
    assert_equal counts[:emitted], counts.values_at(:acknowledged, :refused, :dropped, :kept, :waiting).sum
  end

  def test_a_log_that_raises_harms_nobody
    met = Queue.new
    broken = Object.new
    broken.define_singleton_method(:warn) { |*| met << 1 and raise "broken" }
    @recorder = RunRecorder::Recorder.new(socket: @path, logger: broken)
    recorder.event("r", "step")
    met.pop
    fake.read(1)
    fake.answer({ "acked" => 1 })
    settled(1)
  end

  def test_a_sender_that_was_killed_is_made_again
    recorder.event("r", "step1")
    fake.read(1)
    Thread.list.select { |thread| thread.name == "run_recorder" }.each { |thread| thread.kill.join }
    recorder.event("r", "step2")
    fake.hang_up
    assert_equal(%w[step1 step2], fake.read(2).map { |event| event["type"] })
  end

  private

  def recorder(**options)
    @recorder ||= RunRecorder::Recorder.new(socket: @path, logger: Logger.new(@log), **options)
  end

  # A file of an earlier client.
  def leave(run_id)
    earlier = RunRecorder::Recorder.new(socket: @path, logger: Logger.new(StringIO.new))
    earlier.event(run_id, "run_completed")
    earlier.close(0)
  end

  def fake
    @fake ||= Fake.new(@path)
  end

  def stats
    recorder.stats
  end

  def settled(acknowledged)
    Support.wait_until("#{acknowledged} acknowledged") { stats[:acknowledged] == acknowledged }
  end

  def unsent
    Dir[File.join(ENV["XDG_STATE_HOME"], "run-recorder", "unsent", "*")]
  end

  def cost_of
    started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - started
  end
end
