# frozen_string_literal: true

# Everything that is needed, now: a process without a free file descriptor can require nothing.
require "digest/sha2"
require "fileutils"
require "json"
require "logger"
require "securerandom"
require "socket"

require "run_recorder/version"

# Records background jobs in the run-recorder daemon, and never harms them: no call raises into the work or waits for the
# daemon. The methods here use one recorder of the process, made at the first call; any thread may call.
module RunRecorder
  # What may go wrong in the client's own code. Anything else that is raised there comes out of a signal handler (Interrupt,
  # SystemExit, …), and is meant for the caller.
  TROUBLE = [StandardError, ScriptError, SystemStackError, NoMemoryError].freeze

  # What may come out of the methods of a value, or of a callable, that the client was given: every exception but a signal's.
  module Unreadable
    def self.===(exception)
      !(SignalException === exception)
    end

    # nil where that is raised in the block. Interrupts wait until it is over.
    def self.harmless
      Thread.handle_interrupt(Recorder::LATER) do
        begin
          yield
        rescue self
          nil
        end
      end
    end
  end

  autoload :ActiveJob, "run_recorder/active_job"
  autoload :Sidekiq, "run_recorder/sidekiq"

  # nil before Ruby 3.0.
  MAIN_RACTOR = defined?(::Ractor) ? ::Ractor.main : nil

  @lock = Mutex.new

  class << self
    # Runs the block and records it: RunRecorder.run("nightly") { |run| … }. See Recorder#run.
    def run(council, **options, &work)
      default.run(council, **options, &work)
    end

    # Sends any event of the protocol: RunRecorder.event(run_id, "page_read", payload: { page: 3 }).
    def event(run_id, type, fields = nil, **more)
      default.event(run_id, type, fields, **more)
    end

    def flush(*timeout)
      default.flush(*timeout)
    end

    def close(*timeout)
      default.close(*timeout)
    end

    def stats
      default.stats
    end

    # The run around the caller, also in a job that an adapter records. Outside of one its calls do nothing.
    def current
      Run.current || Run.new(NoRecorder, "")
    end

    # Options of the recorder of this process, once, before the first event. See Recorder.new.
    def configure(**options)
      return NoRecorder if inside_ractor?

      @default = Recorder.new(**options)
    end

    def default
      return NoRecorder if inside_ractor?

      @default || new_default
    end

    # Nothing here is shareable.
    def inside_ractor?
      MAIN_RACTOR && !MAIN_RACTOR.equal?(::Ractor.current)
    end

    private

    def new_default
      @lock.synchronize { @default ||= Recorder.new }
    rescue ThreadError # a signal handler
      @default ||= Recorder.new
    end
  end

  # Takes events for nobody: outside of a run, and inside a Ractor.
  module NoRecorder
    class << self
      def event(*, **); end

      def run(_council, run_id: nil, **)
        yield Run.new(self, nil.equal?(run_id) ? "" : run_id)
      end

      def flush(*)
        true
      end

      def close(*)
        true
      end

      def stats
        {}
      end
    end
  end
end

require "run_recorder/text"
require "run_recorder/values"
require "run_recorder/failure"
require "run_recorder/event"
require "run_recorder/log"
require "run_recorder/reports"
require "run_recorder/backoff"
require "run_recorder/wake"
require "run_recorder/connection"
require "run_recorder/unsent"
require "run_recorder/lane"
require "run_recorder/buffer"
require "run_recorder/earlier"
require "run_recorder/sender"
require "run_recorder/pipeline"
require "run_recorder/handover"
require "run_recorder/outcome"
require "run_recorder/run"
require "run_recorder/recorder"
