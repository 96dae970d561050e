# frozen_string_literal: true

module RunRecorder
  # What the sender has to say: each trouble once when it begins and once when it is over. The sender's thread alone.
  class Reports
    REFUSALS_EVERY_S = 60

    def initialize(path, log)
      @path = path
      @log = log
      @dropped = 0
      @refused = 0
    end

    def away(error)
      return if @away

      @away = true
      @log.warn("the daemon is away (#{@path}: #{reason(error)}); events are kept in memory")
    end

    # It answered.
    def back
      return unless @away

      @away = false
      @log.info("the daemon is back (#{@path})")
    end

    def put_off(message)
      return if @put_off

      @put_off = true
      @log.warn("the daemon takes no events now (#{@path}: #{message}); events are kept in memory")
    end

    # Everything that was sent was accepted.
    def taken
      return unless @put_off

      @put_off = false
      @log.info("the daemon takes events again (#{@path})")
    end

    def dropped(buffer)
      if buffer.dropped > @dropped && !@dropping
        @dropping = @dropped
        @log.warn("the buffer is full; the oldest details go first, then the oldest lifecycle events")
      elsif @dropping && buffer.dropped == @dropped && buffer.roomy?
        @log.warn("the buffer has room again; #{@dropped - @dropping} events were dropped")
        @dropping = nil
      end
      @dropped = buffer.dropped
    end

    # At most one line in a while, however many events are refused.
    def refused(message)
      @refused += 1
      now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      return if @refused_said_at && now - @refused_said_at < REFUSALS_EVERY_S

      @log.warn("the daemon refused #{@refused == 1 ? "an event" : "#{@refused} events"}: #{message}")
      @refused_said_at = now
      @refused = 0
    end

    private

    def reason(error)
      error.is_a?(SystemCallError) ? error.message.sub(/ - .*/m, "").downcase : error.message
    end
  end
end
