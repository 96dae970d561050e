# frozen_string_literal: true

module RunRecorder
  # The buffer and the sender of one process. A forked child makes its own, which needs no file descriptor and no thread until
  # the sender starts. Any thread may call.
  class Pipeline
    RETRY_S = 0.1

    @all = []

    class << self
      # Those of this process that were given events.
      def living
        @all.select { |pipeline| pipeline.pid == Process.pid }
      end

      def add(pipeline)
        @all |= [pipeline]
      end
    end

    attr_reader :pid, :buffer

    def initialize(options, log)
      @pid = Process.pid
      @options = options
      @log = log
      @unsent = Unsent.new(options.socket)
      @buffer = Buffer.new(options.buffer_bytes)
      @sender = new_sender
    end

    def push(line, lifecycle, truncated, id)
      return dropped_after_close if @closed

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

      deadline = now + timeout
      until @sender.start
        return true if @buffer.wait_settled([deadline, now + RETRY_S].min)
        return false if now >= deadline
      end
      @sender.hurry
      @buffer.wait_settled(deadline)
    end

    # Flushes; what is left goes to the unsent file. The pipeline goes on working afterwards.
    def finish(timeout)
      settled = flush(timeout)
      keep_unsent unless @buffer.empty?
      @sender.report_dropped
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

    # Before the process becomes another program, which runs no hooks. Nothing where nothing waits.
    def leave
      at_end unless @buffer.empty?
    end

    # In the child in which the process goes on (Process.daemon): what waits, waits here now.
    def go_on
      @pid = Process.pid
      close_inherited
      @buffer.go_on
      @sender = new_sender
      @sender.start unless @buffer.empty?
    rescue *TROUBLE
      nil
    end

    def close_inherited
      @sender.close_inherited
    rescue *TROUBLE
      nil
    end

    private

    def new_sender
      Sender.new(@options.socket, @buffer, @unsent, @options.max_event_bytes, @log)
    end

    def dropped_after_close
      @buffer.count_lost(:dropped)
      return if @closed_said

      @closed_said = true
      @log.warn("the client is closed; events are dropped")
    end

    # At each first event again: what is sent while the process ends already (tests that run at exit, say) is not forgotten.
    def end_with_process
      @ends_with_process = true
      Pipeline.add(self)
      at_exit do
        @ends_with_process = false
        at_end if @pid == Process.pid
      end
    end

    def at_end
      finish(@options.flush_timeout)
    rescue *TROUBLE => e
      @log.warn("could not end in order: #{e.class}")
    end

    def keep_unsent
      left, kept = 0, nil
      @buffer.take_all do |lines|
        left = lines.size
        kept = @unsent.keep(lines)
        kept.count
      end
      say_kept(kept, left - kept.count) if kept
    end

    def say_kept(kept, lost)
      one = kept.count == 1
      @log.info("#{Text.count(kept.count, "event")} could not be sent; #{one ? "it is" : "they are"} kept in #{kept.path}") if kept.path
      return if lost.zero?

      one = lost == 1
      @log.warn("#{Text.count(lost, "event")} could not be sent and could not be kept (#{kept.reason}): #{one ? "it is" : "they are"} lost")
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
