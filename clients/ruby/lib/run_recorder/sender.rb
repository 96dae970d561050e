# frozen_string_literal: true

require "json"

module RunRecorder
  # Brings the buffer's events to the daemon and settles them by its answers, in a thread of its own. `wake` may be called by
  # any thread and in signal handlers; `start` by any thread; everything else is the sender's thread's.
  class Sender
    MAX_SENT_LINES = 4096
    MAX_SENT_BYTES = 1024 * 1024
    LINES_A_WRITE = 1024
    ANSWER_LIMIT_S = 30
    IDLE_S = 600
    GATHER_S = 0.002 # from the first new event to sending, so that many go in one write
    RESEND = %w[spool_full unavailable].freeze

    def initialize(path, buffer, unsent, max_event_bytes, log)
      @path = path
      @buffer = buffer
      @max_event_bytes = max_event_bytes
      @reports = Reports.new(path, log)
      @wake = Wake.new
      @backoff = Backoff.new
      @resend = Backoff.new
      @idle = false
      @earlier = Earlier.new(unsent, buffer)
      @starting = Mutex.new
    end

    # Makes sure that the thread runs. Cheap when it does. Whoever comes second leaves it to the first. False where it does not
    # run: no file descriptor is free, or no thread can be made. The next call tries again.
    def start
      return true if @thread&.alive?
      return false if @stopped || !@starting.try_lock

      begin
        start_thread
      ensure
        @starting.unlock
      end
    end

    # Something new is in the buffer.
    def wake
      return unless @idle

      @idle = false
      @wake.call
    end

    # Ends a pause: somebody waits.
    def hurry
      @hurry = true
      @wake.call
    end

    # The process may be ending.
    def report_dropped
      @reports.dropped_at_end(@buffer)
    end

    def stop
      @stopped = true
      @wake.call
    end

    # In a forked child: the parent's connection and wake, which this process must not keep open.
    def close_inherited
      @connection&.close
      @wake.close
      @earlier.close
    end

    private

    def start_thread
      return true if @thread&.alive?

      @wake.open
      @thread = new_thread
      @reports.started
      true
    rescue *TROUBLE => e
      @reports.not_started(e)
      false
    end

    # A thread inherits the deferral of interrupts; this one must not keep the process from ending.
    def new_thread
      thread = Thread.new { Thread.handle_interrupt(Object => :immediate) { run } }
      thread.name = "run_recorder"
      thread.report_on_exception = false
      thread
    end

    def run
      start_over
      until @stopped
        begin
          wait_for_events
          connect_and_serve unless @stopped
        rescue *TROUBLE => e
          lost(e)
        end
      end
      @connection&.close
    rescue *TROUBLE
      nil # `start` makes a new thread with the next event
    end

    # After a thread that was killed.
    def start_over
      @connection&.close
      @connection = nil
      @buffer.unsend
    end

    def wait_for_events
      until @stopped || !@buffer.nothing_to_send?
        @idle = true
        @wake.wait(IDLE_S) if @buffer.nothing_to_send?
      end
    ensure
      @idle = false
    end

    def connect_and_serve
      @limit = Backoff::LIMIT_S
      @connection = Connection.new(@path)
      @answered_at = now
      @hold_until = nil
      @earlier.look
      serve until @stopped
    end

    # One round: read answers, send what may be sent, wait for more of either.
    def serve
      read_answers
      fill
      @reports.dropped(@buffer)
      sent, bytes = @buffer.sent
      raise Connection::Ended, "no answer for #{ANSWER_LIMIT_S} s" if sent.positive? && now - @answered_at > ANSWER_LIMIT_S

      wait(sent, bytes)
    end

    def wait(sent, bytes)
      held = hold_left
      room = !held && !@connection.unwritten? && sent < MAX_SENT_LINES && bytes < MAX_SENT_BYTES
      @idle = room # from here on a new event wakes; one that came before is seen by the next line
      return gather if room && !@buffer.nothing_to_send? && !probing_waits?(sent)

      @wake.wait(held || (sent.positive? ? ANSWER_LIMIT_S : IDLE_S), readable: @connection.socket,
                                                                     writable: @connection.unwritten? ? @connection.socket : nil)
    ensure
      @idle = false
    end

    # A moment in which more events may come; they need not wake this thread.
    def gather
      @idle = false
      @wake.wait(GATHER_S) if @buffer.waiting_lines < LINES_A_WRITE
    end

    # While the spool is full a detail is on its way, and no other may be sent before its answer.
    def probing_waits?(sent)
      @full && sent.positive?
    end

    def fill
      @connection.write_more
      return if hold_left || @connection.unwritten?

      @hold_until = nil
      sent, bytes = @buffer.sent
      room = [MAX_SENT_LINES - sent, LINES_A_WRITE].min
      return if room <= 0 || bytes >= MAX_SENT_BYTES

      @earlier.feed
      entries = @buffer.take(@connection.last_number + 1, room, MAX_SENT_BYTES - bytes, probing: @full)
      return if entries.empty?

      @answered_at = now if sent.zero?
      @connection.write(entries.map(&:line))
    end

    # Seconds until sending may go on after a line was put off, and all other answers must have come; nil: at once.
    def hold_left
      return unless @hold_until

      left = @hold_until - now
      return left if left.positive? && !@hurry

      @buffer.sent.first.zero? ? (@hurry = false; nil) : ANSWER_LIMIT_S
    end

    def read_answers
      @connection.answers.each do |answer|
        @answered_at = now
        answer["error"] ? refused(answer["error"]) : acknowledged(answer["acked"])
      end
    end

    def acknowledged(number)
      details = @buffer.acknowledge(number)
      @backoff.reset
      @reports.back
      return if @hold_until || (@full && !details)

      @full = false
      @resend.reset
      @reports.taken
    end

    def refused(error)
      number, code, message = error.values_at("line", "code", "message")
      return connection_refused(code, message) if number.zero?
      return put_off(number, code, message) if RESEND.include?(code)

      line, reduced = @buffer.sent_line(number)
      return unless line

      smaller = reduce(line) unless reduced
      smaller ? @buffer.send_again(number, smaller) : refuse(number, "#{code}: #{message}")
    end

    def connection_refused(code, message)
      @limit = Backoff::LONG_LIMIT_S if code == "forbidden"
      raise Connection::Ended, "#{code}: #{message}"
    end

    def put_off(number, code, message)
      @buffer.send_again(number)
      @full ||= code == "spool_full"
      @reports.put_off(message)
      @hold_until ||= now + @resend.next
    end

    def refuse(number, message)
      @buffer.refuse(number)
      @reports.refused(message)
    end

    def reduce(line)
      Event.reduce(line, @max_event_bytes)
    rescue *TROUBLE
      nil # no JSON: a line of an unsent file
    end

    def lost(error)
      connection, @connection = @connection, nil
      last_answers(connection) if connection && error.is_a?(SystemCallError)
      connection&.close
      @buffer.unsend
      @reports.away(error) unless @buffer.nothing_to_send?
      pause(@backoff.next(@limit || Backoff::LIMIT_S)) unless @buffer.nothing_to_send?
    rescue *TROUBLE
      sleep(Backoff::FIRST_S) # whatever it was, the thread goes on
    end

    # What the daemon said before it closed: acknowledgements, and why.
    def last_answers(connection)
      @connection = connection
      read_answers
    rescue *TROUBLE => e
      @reports.away(e) unless e.is_a?(SystemCallError)
    ensure
      @connection = nil
    end

    def pause(seconds)
      deadline = now + seconds
      until @stopped || @hurry || (left = deadline - now) <= 0
        @wake.wait(left)
        @reports.dropped(@buffer)
      end
      @backoff.reset if @hurry
      @hurry = false
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
