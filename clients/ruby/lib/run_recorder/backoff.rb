# frozen_string_literal: true

module RunRecorder
  # Growing pauses, in seconds. Used by the sender's thread alone.
  class Backoff
    FIRST_S = 0.1
    LIMIT_S = 5
    LONG_LIMIT_S = 30

    def initialize
      reset
    end

    def reset
      @next = FIRST_S
    end

    # The pause after one more failure.
    def next(limit = LIMIT_S)
      pause = [@next, limit].min
      @next = [@next * 2, LONG_LIMIT_S].min
      pause
    end
  end
end
