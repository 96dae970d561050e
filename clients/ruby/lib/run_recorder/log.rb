# frozen_string_literal: true

require "logger"

module RunRecorder
  # Says what begins and what is over, through the given logger or one on standard error. Never raises. The sender's thread
  # is the one that speaks, so that a slow log delays no work; the caller does where there is no such thread, once.
  class Log
    def initialize(logger)
      @logger = logger
    end

    def warn(message)
      say(:warn, message)
    end

    def info(message)
      say(:info, message)
    end

    private

    def say(severity, message)
      logger.public_send(severity, "run_recorder: #{message}")
    rescue Unreadable
      nil
    end

    def logger
      @logger ||= Logger.new($stderr)
    end
  end
end
