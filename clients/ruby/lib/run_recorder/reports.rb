# frozen_string_literal: true

module RunRecorder
  # Said once when it begins and once when it is over. One thread at a time.
  class Trouble
    def initialize(log)
      @log = log
    end

    def begins(words)
      return if @on

      @on = true
      @log.warn(words)
    end

    def over(words)
      return unless @on

      @on = false
      @log.info(words)
    end
  end

  # What the sender has to say: each trouble once when it begins and once when it is over. The sender's
  # thread alone, but for those that say otherwise.
  class Reports
    REFUSALS_EVERY_S = 60

    def initialize(path, log)
      @path = Text.clean(path)
      @log = log
      @away, @put_off, @not_started = Array.new(3) { Trouble.new(log) }
      @lock = Mutex.new # around the next two
      @overflowed = @overflowed_said = 0
      @refused = 0
    end

    def away(error)
      @away.begins("the daemon is away (#{@path}: #{Text.reason(error)}); events are kept in memory")
    end

    # It answered.
    def back
      @away.over("the daemon is back (#{@path})")
    end

    def put_off(message)
      @put_off.begins("the daemon takes no events now (#{@path}: #{message}); events are kept in memory")
    end

    # Everything that was sent was accepted.
    def taken
      @put_off.over("the daemon takes events again (#{@path})")
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
      @not_started.begins("nothing can be sent now (#{Text.reason(error)}); events are kept in memory")
    end

    # As before.
    def started
      @not_started.over("events can be sent again")
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
