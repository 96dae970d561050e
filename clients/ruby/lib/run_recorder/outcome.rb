# frozen_string_literal: true

module RunRecorder
  # Sends the events that start and end a run, the latter by how its work ended. One instance serves one execution, on the
  # work's thread.
  #
  # An interrupt (Timeout, Thread#raise, Thread#kill) waits while either is sent, and comes out behind it. Around the work itself
  # nothing is deferred or allowed: what the caller has deferred stays deferred, and fibers may change in it.
  #
  # Work that was left without an exception (`break`, `return`, `throw`) completed, without a result. Two ways of leaving look
  # the same and are not: the thread was killed, or a Timeout around the run is over (see TimeoutMark).
  class Outcome
    # started: the fields of run_started.
    def initialize(run, started)
      @run = run
      @started = started
      TimeoutMark.watch
    end

    # Does the work, and says how it ended. What goes wrong in saying it stays here.
    def around
      around_once { yield }
    ensure
      settle # again: a signal handler may have raised in the first one, and that cannot be deferred
    end

    private

    # Interrupts are looked for where code branches or returns; so none comes between the end of the work and the deferral
    # with which `ensure` begins.
    def around_once
      @error_before = $! # rubocop:disable Style/SpecialGlobalVars
      start
      @value = yield
      @returned = true
      @value
    rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised again
      @error = e
      raise
    ensure
      Thread.handle_interrupt(Recorder::LATER) { settle }
    end

    def start
      @run.enter
      @run.send_event("run_started", @started)
    end

    def settle
      return if @settled

      @run.leave
      harmless { tell }
      harmless { left } unless @finished
      @settled = true
    end

    def tell
      return returned(@value) if @returned

      error = @error || interrupt
      raised(error) if error
    end

    # One that came after the work's own exception and before it could be kept.
    def interrupt
      error = $! # rubocop:disable Style/SpecialGlobalVars
      error unless error.equal?(@error_before)
    end

    def returned(value)
      finish("run_completed", "result" => @run.result_of(value))
    end

    def raised(exception)
      finish(*Failure.end_of(exception))
    end

    def failed(errors)
      finish("run_failed", "errors" => errors)
    end

    # Nobody can say how the work ended, or it is going to be done again under the same run_id.
    def lost(message)
      finish("run_lost", "message" => message)
    end

    def left
      return if @finished
      return lost("its thread was killed") if Thread.current.status == "aborting"
      return failed([{ "kind" => "Timeout::Error", "message" => "execution expired" }]) if TimeoutMark.passing?

      completed
    end

    # Without a result, unless one was set.
    def completed
      finish("run_completed", @run.result? ? { "result" => @run.result_of(nil) } : {})
    end

    # Once, and not in a child that was forked inside the work.
    def finish(type, fields)
      return if @finished || !@run.of_this_process?

      @run.send_event(type, @fields ? fields.merge(@fields) : fields)
      @finished = true
    end

    def harmless
      yield
    rescue *TROUBLE
      nil
    end
  end

  # Before version 0.4 (Ruby 3.3) Timeout leaves its block with `throw`, so that nothing can be rescued inside. This marks the
  # time from that throw until the Timeout::Error is made that is raised behind the block.
  module TimeoutMark
    MARK = :run_recorder_timeout

    def self.watch
      Thread.current[MARK] = nil
      return if @watched || !defined?(::Timeout::Error)

      @watched = true
      ::Timeout::Error.prepend(self) if ::Timeout::Error.method_defined?(:thread)
    end

    def self.passing?
      Thread.current[MARK]
    end

    def initialize(*)
      Thread.current[MARK] = nil
      super
    end

    def exception(*)
      Thread.current[MARK] = true if thread == Thread.current
      super
    end
  end
end
