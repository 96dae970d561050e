# frozen_string_literal: true

module RunRecorder
  # What the sender has to say: each trouble once when it begins and once when it is over. The sender's
  # thread alone, but for those that say otherwise.
  class Reports
    REFUSALS_EVERY_S = 60

    def initialize(path, log)
      @path = Text.clean(path)
      @log = log
      @lock = Mutex.new # around the next two
      @overflowed = @overflowed_said = 0
      @refused = 0
    end

    def away(error)
      return if @away

      @away = true
      @log.warn("the daemon is away (#{@path}: #{Text.reason(error)}); events are kept in memory")
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
      words = @lock.synchronize do
        before, @overflowed = @overflowed, buffer.overflowed
        if @overflowed > before && !@dropping
          @dropping = true
          "the buffer is full; the oldest details go first, then the oldest lifecycle events"
        elsif @dropping && @overflowed == before && buffer.roomy?
          "the buffer has room again; #{number_dropped}"
        end
      end
      @log.warn(words) if words
    end

    # Nobody may be there any more to say it later. Any thread.
    def dropped_at_end(buffer)
      words = @lock.synchronize do
        @overflowed = buffer.overflowed
        "the buffer was full; #{number_dropped}" if @overflowed > @overflowed_said
      end
      @log.warn(words) if words
    end

    # The sender's thread cannot be made. The thread of whoever tried, one at a time.
    def not_started(error)
      return if @not_started

      @not_started = true
      @log.warn("nothing can be sent now (#{Text.reason(error)}); events are kept in memory")
    end

    # As before.
    def started
      return unless @not_started

      @not_started = false
      @log.info("events can be sent again")
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

    def number_dropped
      count = @overflowed - @overflowed_said
      @overflowed_said = @overflowed
      @dropping = false
      "#{Text.count(count, "event")} #{count == 1 ? "was" : "were"} dropped"
    end
  end
end
