# frozen_string_literal: true

require_relative "support"
require "bigdecimal"
require "date"
require "ostruct"
require "pathname"
require "set"

# What values and fields become. No daemon.
class TestValues < Minitest::Test
  Point = Struct.new(:x, :y)

  class Named
    attr_reader :name

    def initialize(name, hidden = 1)
      @name = name
      @hidden = hidden
    end
  end

  class Raises < BasicObject
    def method_missing(*)
      ::Kernel.raise ::ArgumentError
    end
  end

  # Raises whatever it was told, however it is read.
  class RaisesThis
    def initialize(exception)
      @exception = exception
    end

    %i[to_s inspect iso8601 to_h to_a message].each { |name| define_method(name) { |*| raise @exception } }
  end

  class OddHash < Hash
    %i[to_a each each_pair size fetch to_s].each { |name| define_method(name) { |*| exit 3 } }
  end

  class OddArray < Array
    %i[to_a each map size first to_s].each { |name| define_method(name) { |*| exit 3 } }
  end

  class Reenters
    def to_s
      to_s
    end
  end

  def test_texts
    assert_equal "ab\uFFFDcd", become("ab\xFFcd")
    assert_equal "a\uFFFDb", become("a\0b")
    assert_equal "a\u00E9", become("a\xE9".dup.force_encoding("ISO-8859-1"))
    assert_equal "\u00E9", become("\u00E9".b)
    assert_equal "\u00E9", become("\u00E9".encode("UTF-16LE"))
    assert_equal "\u0001\"\\\u007F\u2028\u{1F680}", become("\u0001\"\\\u007F\u2028\u{1F680}")
    assert_match(/\Aa\uFFFD+b\z/, become("a\xED\xA0\x80b"))
  end

  def test_numbers
    assert_equal %w[NaN Infinity -Infinity], become([Float::NAN, Float::INFINITY, -Float::INFINITY])
    assert_equal [1, 2.5, -0.125, 2**70, -(10**299)], become([1, 2.5, -0.125, 2**70, -(10**299)])
    assert_equal ["1#{"0" * 299}", "-1#{"0" * 299}"], become([10**300, -(10**300)])
    assert_equal ["0.1", "1/3", "NaN", "0.1e1000"], become([BigDecimal("0.1"), 1 / 3r, BigDecimal("NaN"), BigDecimal("1e999")])
  end

  def test_keys
    assert_equal({ "1" => "text" }, become({ 1 => "integer", "1" => "text" }))
    assert_equal({ "a" => 2, "" => 3, "b\uFFFD" => 4 }, become({ a: 1, "a" => 2, nil => 3, "b\0" => 4 }))
  end

  def test_depth_and_cycles
    cycle = { n: 1 }
    cycle[:self] = cycle
    assert_equal({ "n" => 1, "self" => "[cycle]" }, become(cycle))
    twice = [1]
    assert_equal [[1], [1]], become([twice, twice])
    refute_includes become(deep(60)).inspect, "[too deep]"
    assert_includes become(deep(61)).inspect, "[too deep]"
  end

  def test_times_and_objects
    assert_equal "2026-12-01T05:40:00.500000Z", become(Time.utc(2026, 12, 1, 5, 40, 0.5r))
    assert_equal "2026-12-01T05:40:00.000000+02:00", become(Time.new(2026, 12, 1, 5, 40, 0, "+02:00"))
    assert_equal ["2026-12-01", "s", "/tmp/x", [1, 2], "1..3"], become([Date.new(2026, 12, 1), :s, Pathname("/tmp/x"), Set[1, 2], 1..3])
    assert_equal [{ "x" => 1, "y" => 2 }, { "a" => 1 }], become([Point.new(1, 2), OpenStruct.new(a: 1)])
    assert_equal({ "name" => "x" }, become(Named.new("x")))
    assert_equal({ "kind" => "RuntimeError", "message" => "m" }, become(RuntimeError.new("m")))
    assert_equal 1000, become(Object.new.tap { |object| object.define_singleton_method(:to_s) { "y" * 5000 } }).size
    assert_equal "String", become(String)
  end

  def test_an_object_in_an_object_is_its_text
    assert_kind_of String, become(Named.new(Named.new("inner")))["name"]
  end

  def test_what_raises
    assert_equal "[unreadable: ArgumentError]", become(Raises.new)
    assert_equal({ "ok" => 1, "bad" => "[unreadable: ArgumentError]" }, become({ ok: 1, bad: Raises.new }))
    assert_equal "[unreadable: SystemStackError]", become(Reenters.new)
  end

  def test_any_exception_of_a_value_makes_it_unreadable
    [SystemExit, Exception, SecurityError, NotImplementedError, NoMemoryError].each do |kind|
      odd, text = RaisesThis.new(kind.new), "[unreadable: #{kind}]"
      assert_equal [text, { "a" => text }], become([odd, { a: odd }])
      assert_equal [text, text, text], [RunRecorder::Text.of(odd), RunRecorder::Event.run_id(odd), made("run_started", "council" => odd)["council"]]
      assert_equal text, made("step", "progress" => { done: 1, unit: odd })["progress"]["unit"]
      assert_equal "event__unreadable__#{kind.to_s.downcase}_", RunRecorder::Event.type(odd)
    end
  end

  def test_the_exception_of_a_signal_comes_out
    assert_raises(Interrupt) { become(RaisesThis.new(Interrupt.new)) }
    assert_raises(SignalException) { RunRecorder::Text.of(RaisesThis.new(SignalException.new("TERM"))) }
  end

  def test_what_subclasses_of_hash_and_array_do_is_not_asked
    assert_equal [{ "a" => 1 }, [1, 2]], become([OddHash.new.merge!(a: 1), OddArray.new([1, 2])])
  end

  def test_work_runs_whatever_its_name_raises
    odd = RaisesThis.new(SystemExit.new)
    recorder = RunRecorder::Recorder.new(socket: "/nonexistent/socket", logger: Logger.new(StringIO.new))
    assert_equal 1, recorder.run(odd, run_id: odd, parent: odd) { |run| run.event(odd, odd) || run.usage(a: odd) || run.progress(odd, odd, odd) || 1 }
    assert_nil recorder.event("r", "step", OddHash.new.merge!(a: odd))
    assert_equal [6, 6], recorder.stats.values_at(:emitted, :waiting)
  ensure
    recorder&.instance_variable_get(:@pipeline)&.buffer&.take_all(&:size) # nothing is left for the end of the process
  end

  def test_a_value_that_is_too_large_costs_little
    huge = ["x" * 1_000_000] * 1000
    started = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID)
    line, truncated = RunRecorder::Event.line("run_started", "r", { "council" => "c", "input" => huge, "more" => 1 }, 1 << 20)
    assert_operator Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) - started, :<, 1 # s; to write all of it takes longer
    event = JSON.parse("#{line}}")
    assert_equal [true, true, "c", false, false], [truncated, event["truncated"], event["council"], event.key?("input"), event.key?("more")]
  end

  def test_fields_that_the_daemon_would_refuse
    event = made("run_started", "council" => "\u00E9" * 200, "attempt" => 0, "queue" => "", "job_id" => 12, "expires_in" => 90.7,
                                "usage" => { a: 1, b: Float::NAN, c: "x", d: 1r / 4 }, "host" => nil, "input" => nil,
                                "parent_attempt_run_id" => "p" * 300)
    assert_equal ["\u00E9" * 127, 12, 90, { "a" => 1, "d" => 0.25 }, nil], event.values_at("council", "job_id", "expires_in", "usage", "input")
    assert event.key?("input")
    assert_empty event.keys & %w[attempt queue host]
    assert_match(/\Ap{200}~\h{32}\z/, event["parent_attempt_run_id"])
  end

  def test_progress
    progress = made("step", "progress" => { done: 1, total: 2, unit: "x" * 99 })["progress"]
    assert_equal({ "done" => 1, "total" => 2, "unit" => "x" * 64 }, progress)
    assert_nil made("step", "progress" => { done: "many" })["progress"]
    assert_nil made("step", "progress" => { done: 1, total: Float::NAN })["progress"]
  end

  def test_errors_are_a_list_of_texts_and_objects
    assert_equal ["x"], made("run_failed", "errors" => "x")["errors"]
    assert_equal ["1", "NaN", { "kind" => "k" }], made("run_failed", "errors" => [1, Float::NAN, { kind: "k" }])["errors"]
    assert_equal "IOError", made("run_failed", "errors" => [IOError.new("m")])["errors"][0]["kind"]
  end

  def test_a_field_beside_the_payload_that_is_in_it_too_is_left_out
    event = made("step", "payload" => { "a" => 1 }, "a" => 2, "b" => 3)
    assert_equal [{ "a" => 1 }, nil, 3], event.values_at("payload", "a", "b")
    assert_equal({ "value" => [1] }, made("step", "payload" => [1])["payload"])
  end

  def test_types_and_worker_pid
    assert_equal %w[row_done_ event_1x step], ["Row Done!", "1x", :step].map { |type| RunRecorder::Event.type(type) }
    assert_equal 64, RunRecorder::Event.type("x" * 100).size
    assert_equal [Process.pid, nil, nil, 7], [made("step", {}), made("run_heartbeat", {}), made("step", "worker_pid" => nil),
                                              made("step", "worker_pid" => 7)].map { |event| event["worker_pid"] }
  end

  def test_a_reduced_line_keeps_what_the_row_needs
    errors = Array.new(20) { |n| { kind: "k#{n}", message: "m" * 2000, stacktrace: "s" } }
    line, = RunRecorder::Event.line("run_failed", "r", { "errors" => errors, "job_state" => "dead", "result" => 1, "other" => 2 }, 1 << 20)
    reduced = JSON.parse(RunRecorder::Event.reduce(RunRecorder::Event.finish(line, "i-1"), 1 << 20))
    assert_equal ["i-1", "dead", 10, true], [reduced["id"], reduced["job_state"], reduced["errors"].size, reduced["truncated"]]
    assert_equal [%w[kind message], 1000], [reduced["errors"][0].keys, reduced["errors"][0]["message"].size]
    assert_empty reduced.keys & %w[result other]
  end

  def test_ids_are_version_7
    assert_match(/\A\h{8}-\h{4}-7\h{3}-[89ab]\h{3}-\h{12}\z/, RunRecorder::Run.new_id)
    assert_equal 100, Array.new(100) { RunRecorder::Run.new_id }.uniq.size
  end

  private

  def become(value)
    JSON.parse(JSON.generate([RunRecorder::Values.new(1 << 20).convert(value)])).first
  end

  def made(type, fields)
    line, = RunRecorder::Event.line(type, "r", fields, 1 << 20)
    JSON.parse("#{line}}")
  end

  def deep(levels)
    (levels - 1).times.inject([]) { |inner, _| [inner] }
  end
end
