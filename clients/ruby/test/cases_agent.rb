# frozen_string_literal: true

# The agent of clients/cases: does with the client what standard input tells it, one JSON object a line.

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "json"
require "run_recorder"

# Raises however it is read.
class Raises < BasicObject
  def method_missing(*)
    ::Kernel.raise ::ArgumentError, "unreadable"
  end

  def respond_to_missing?(*)
    ::Kernel.raise ::ArgumentError, "unreadable"
  end
end

# An object with a field.
class Named
  attr_reader :name

  def initialize(name)
    @name = name
  end
end

# Turns {"$": KIND} into values.
module Kinds
  MAKE = {
    "bytes" => ->(given) { [given["hex"]].pack("H*").force_encoding(Encoding::UTF_8) },
    "surrogate" => ->(_) { "a\xED\xA0\x80b" },
    "nan" => ->(_) { Float::NAN },
    "infinity" => ->(_) { Float::INFINITY },
    "-infinity" => ->(_) { -Float::INFINITY },
    "integer" => ->(given) { Integer(given["text"], 10) },
    "cycle" => ->(_) { { "n" => 1 }.tap { |hash| hash["self"] = hash } },
    "text" => ->(given) { "x" * given["bytes"] },
    "deep" => ->(given) { (given["levels"] - 1).times.inject([]) { |inner, _| [inner] } },
    "raises" => ->(_) { Raises.new },
    "keys" => ->(_) { { 1 => "integer", "1" => "text" } },
    "object" => ->(_) { Named.new("x") },
    "wide" => ->(given) { Array.new(given["count"]) { "x" * 100 } }
  }.freeze

  def self.make(value)
    case value
    when Hash then value.key?("$") ? MAKE.fetch(value["$"]).call(value) : value.transform_values { |element| make(element) }
    when Array then value.map { |element| make(element) }
    else value
    end
  end
end

# One method for each command.
class Agent
  def answer(command)
    public_send("do_#{command["do"]}", command)
  rescue KeyError => e
    { "skipped" => e.message }
  end

  def do_open(command)
    flush_ms = command["flush_ms"]
    options = { socket: command["socket"], buffer_bytes: command["buffer_bytes"], flush_timeout: flush_ms && flush_ms / 1000.0 }
    @recorder = RunRecorder::Recorder.new(**options)
    {}
  end

  def do_event(command)
    @recorder.event(Kinds.make(command["run_id"]), command["type"], Kinds.make(command["fields"] || {}))
    {}
  end

  def do_run(command)
    options = (command["fields"] || {}).transform_values { |value| Kinds.make(value) }
    options["parent"] = options.delete("parent_attempt_run_id") if options.key?("parent_attempt_run_id")
    expected = expected_of(command)
    came_out = outcome_of(command, options.transform_keys(&:to_sym), expected)
    { "came_out" => came_out.equal?(expected) ? "as it was" : came_out.inspect }
  end

  def do_jobs(command)
    command["count"].times do |index|
      @recorder.run(command["council"], run_id: "job-#{command["first"] + index}") { |run| run.progress(1, 2) }
    end
    {}
  end

  def do_events(command)
    times = Array.new(command["count"]) do |n|
      started = nanoseconds
      @recorder.event(command["run_id"], command["type"], payload: { "n" => n }, progress: { "done" => n, "total" => command["count"] })
      nanoseconds - started
    end
    report(times.sort)
  end

  def do_stats(_command)
    @recorder.stats
  end

  def do_flush(command)
    { "flushed" => @recorder.flush(command["timeout_ms"] / 1000.0) }
  end

  def do_fork(command)
    child = fork do
      $stdin.close
      @recorder.run(command["council"], run_id: command["run_id"]) { 1 }
    end
    Process.wait(child)
    {}
  end

  def do_close(_command)
    @recorder.close
    {}
  end

  def do_exit(_command)
    exit
  end

  private

  def expected_of(command)
    case command["outcome"]
    when "return" then Kinds.make(command["result"])
    when "raise" then RuntimeError.new(command["message"])
    when "cancel" then Interrupt.new("cancelled")
    end
  end

  def outcome_of(command, options, expected)
    @recorder.run(Kinds.make(command["council"]), run_id: Kinds.make(command["run_id"]), **options) do
      raise expected unless command["outcome"] == "return"

      expected
    end
  rescue RuntimeError, Interrupt => e
    e
  end

  def nanoseconds
    Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  end

  def report(times)
    at = ->(part) { times[(times.size * part).to_i].to_i / 1000.0 }
    { "total_us" => times.sum / 1000.0, "median_us" => at.call(0.5), "p99_us" => at.call(0.99), "max_us" => times.last.to_i / 1000.0 }
  end
end

agent = Agent.new
$stdout.sync = true
$stdin.each_line { |line| puts JSON.generate(agent.answer(JSON.parse(line))) }
