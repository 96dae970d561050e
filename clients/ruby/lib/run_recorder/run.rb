# frozen_string_literal: true

require "securerandom"

module RunRecorder
  # One run, as the work sees it. Its methods return nil, never raise, and may be called by any thread. What they are
  # given may be anything, also a BasicObject: it is asked nothing here.
  class Run
    attr_reader :id

    # What `run_completed` says, in place of the value that the work returns.
    attr_writer :result

    CURRENT = :run_recorder_run

    def initialize(recorder, id = nil)
      @recorder = recorder
      @id = nil.equal?(id) ? Run.new_id : id
    end

    # The run that this fiber works on, nil outside of any.
    def self.current
      Thread.current[CURRENT]
    end

    # This run and those around it, from the inside.
    def self.current_ones
      runs = []
      run = current
      runs << run and run = run.outer while run
      runs
    end

    # The run around this one.
    attr_reader :outer

    # Becomes the current one; its end is this process's to tell.
    def enter
      @pid = Process.pid
      @outer = Thread.current[CURRENT]
      Thread.current[CURRENT] = self
    end

    # The one around it is the current one again. More than once does no harm.
    def leave
      Thread.current[CURRENT] = @outer if equal?(Thread.current[CURRENT])
    end

    # False in a child that was forked inside the work: the run is the parent's.
    def of_this_process?
      Handover.successor(@pid) == Process.pid
    end

    # The work goes on in this process, which is not the one that run_started named.
    def moved
      event("run_heartbeat", worker_pid: Process.pid)
    end

    def progress(done, total = nil, unit = nil)
      event("progress", progress: { done: done, total: total, unit: unit }.compact)
    end

    def usage(numbers = nil, **more)
      Unreadable.harmless { event("usage", usage: Hash === numbers ? {}.merge(numbers, more) : more) } # keys are compared
    end

    # Any detail. `payload` is a hash; further fields of the protocol may follow.
    def event(type, payload = nil, **fields)
      send_event(type, nil.equal?(payload) ? fields : { payload: payload }.merge(fields))
    end

    def send_event(type, fields)
      @recorder.event(@id, type, fields)
    end

    def heartbeat(expires_in: nil)
      event("run_heartbeat", expires_in: expires_in)
    end

    # What is to be recorded as the result of work that returned `value`.
    def result_of(value)
      result? ? @result : value
    end

    def result?
      instance_variable_defined?(:@result)
    end

    # A version 7 UUID: milliseconds, then random bits.
    def self.new_id
      time = format("%012x", Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond))
      random = SecureRandom.hex(10)
      "#{time[0, 8]}-#{time[8, 4]}-7#{random[0, 3]}-#{(8 + random[3].hex % 4).to_s(16)}#{random[4, 3]}-#{random[7, 12]}"
    end
  end
end
