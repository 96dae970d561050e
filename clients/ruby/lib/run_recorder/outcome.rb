# frozen_string_literal: true

module RunRecorder
  # Sends the one event that ends a run, by how its work ended. One instance serves one execution, on the work's thread.
  #
  # Work that was left without an exception (`break`, `return`, `throw`) completed, without a result. Two ways of leaving look
  # the same and are not: the thread was killed, or a Timeout around the run is over (see TimeoutMark).
  class Outcome
    def initialize(run)
      @run = run
      @pid = Process.pid
      TimeoutMark.watch
    end

    # Does the work, and says how it ended. What goes wrong in saying it stays here.
    def around
      value = @run.as_current { yield }
      settle { returned(value) }
      value
    rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised again
      settle { raised(e) }
      raise
    ensure
      settle { left } unless @finished
    end

    private

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

    # Once, and not in a child that was forked inside the work: the run is the parent's.
    def finish(type, fields)
      return if @finished || Process.pid != @pid

      @finished = true
      @run.send_event(type, @fields ? fields.merge(@fields) : fields)
    end

    def settle
      Thread.handle_interrupt(Recorder::LATER) do
        begin
          yield
        rescue *UNREADABLE
          nil
        end
      end
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
