# frozen_string_literal: true

module RunRecorder
  # The buffer and the sender of one process. A forked child makes its own. Any thread may call.
  class Pipeline
    attr_reader :pid

    def initialize(options, log)
      @pid = Process.pid
      @options = options
      @log = log
      @unsent = Unsent.new(options.socket)
      @buffer = Buffer.new(options.buffer_bytes)
      @sender = Sender.new(options.socket, @buffer, @unsent, options.max_event_bytes, log)
    end

    def push(line, lifecycle, truncated, id)
      return @buffer.count_lost(:dropped) if @closed

      end_with_process unless @ends_with_process
      @buffer.push(line, lifecycle, truncated, id)
      @sender.start
      @sender.wake
    end

    def count_refused
      @buffer.count_lost(:refused)
    end

    def flush(timeout)
      return true if @buffer.empty?

      @sender.start
      @sender.hurry
      @buffer.wait_settled(Process.clock_gettime(Process::CLOCK_MONOTONIC) + timeout)
    end

    # Flushes; what is left goes to the unsent file. The pipeline goes on working afterwards.
    def finish(timeout)
      settled = flush(timeout)
      keep_unsent unless @buffer.empty?
      settled
    end

    def close(timeout)
      @closed = true
      finish(timeout)
    ensure
      @sender.stop
    end

    def stats
      @buffer.stats
    end

    def close_inherited
      @sender.close_inherited
    end

    private

    # At each first event again: what is sent while the process ends already (tests that run at exit, say) is not forgotten.
    def end_with_process
      @ends_with_process = true
      at_exit do
        @ends_with_process = false
        at_end if @pid == Process.pid
      end
    end

    def at_end
      finish(@options.flush_timeout)
    rescue *UNREADABLE => e
      @log.warn("could not end in order: #{e.class}")
    end

    def keep_unsent
      left = kept = 0
      @buffer.take_all do |lines|
        left = lines.size
        kept = @unsent.keep(lines)
      end
      return if left.zero?

      @log.warn("#{kept} of #{left} events were not sent and are kept in a file for the next client; the others are dropped") if kept < left
      @log.info("#{kept} events were not sent and are kept in a file for the next client") if kept == left
    end
  end
end
