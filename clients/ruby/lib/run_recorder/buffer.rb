# frozen_string_literal: true

module RunRecorder
  # The events of one process that are not settled yet, and the counts. Any thread may call; one lock guards everything, and
  # is held for moments only. Each method that takes the lock raises ThreadError in a signal handler, where Ruby allows no
  # lock; `push` does not, it leaves the line in a queue that the next caller empties.
  class Buffer
    ENTRY_OVERHEAD = 256 # bytes of Ruby objects around a line, roughly

    def initialize(limit_bytes)
      @limit_bytes = limit_bytes
      @lock = Mutex.new
      @settled = ConditionVariable.new
      @details = Lane.new
      @lifecycle = Lane.new
      @earlier_unsettled = false
      @earlier = Lane.new # from unsent files: sent first, never dropped, outside of the limit
      @lanes = [@earlier, @lifecycle, @details]
      @bytes = 0
      @sent_bytes = 0
      @seq = 0
      @counts = { emitted: 0, acknowledged: 0, refused: 0, dropped: 0, kept: 0, truncated: 0 }
      @overflowed = 0
      @from_handlers = Queue.new # [line, lifecycle, truncated] from signal handlers
      @handler_seq = 0
      @id_prefix = SecureRandom.hex(6)
    end

    # Gives the line its id (unless it has one) and its place. Never waits for more than the lock.
    def push(line, lifecycle, truncated, id = nil)
      @lock.synchronize do
        empty_handlers_queue unless @from_handlers.empty?
        add(Event.finish(line, id || "#{@id_prefix}-#{@seq + 1}"), lifecycle, truncated)
      end
    rescue ThreadError # a signal handler; only one runs at a time
      @handler_seq += 1
      @from_handlers << [Event.finish(line, id || "#{@id_prefix}-s#{@handler_seq}"), lifecycle, truncated]
    end

    # An event that is counted and goes no further.
    def count_lost(kind)
      @lock.synchronize do
        @counts[:emitted] += 1
        @counts[kind] += 1
      end
    rescue ThreadError
      nil
    end

    # The next entries to be sent, marked as sent with numbers from `number` on. `probing`: the spool is full, so lifecycle
    # events and one other.
    def take(number, max_entries, max_bytes, probing: false)
      @lock.synchronize do
        empty_handlers_queue unless @from_handlers.empty?
        taken = []
        bytes = 0
        while taken.size < max_entries && bytes < max_bytes && (lane = probing ? probed_lane : next_lane)
          entry = lane.waiting.shift
          entry.number = number + taken.size
          lane.sent << entry
          taken << entry
          bytes += entry.line.bytesize
        end
        @sent_bytes += bytes
        taken
      end
    end

    # Everything up to that line of the connection is durable or was refused. True where a detail was among it.
    def acknowledge(number)
      @lock.synchronize do
        before = @details.size + @earlier.size
        @lanes.each { |lane| settle(lane, number) }
        @settled.broadcast
        @details.size + @earlier.size < before
      end
    end

    # The line that the daemon refused, and whether it was reduced before; nil where it was dropped meanwhile. It stays until
    # the sender has decided on one of the next two.
    def sent_line(number)
      @lock.synchronize do
        entry = @lanes.map { |lane| lane.find_sent(number) }.compact.first
        entry && [entry.line, entry.reduced]
      end
    end

    # To be sent again in its place, reduced where a line is given.
    def send_again(number, reduced_line = nil)
      take_sent(number) do |lane, entry|
        replace(lane, entry, reduced_line) if reduced_line
        entry.number = nil
        lane.put_back([entry])
      end
    end

    def refuse(number)
      take_sent(number) do |lane, entry|
        @bytes -= cost(entry) unless lane.equal?(@earlier)
        @counts[:refused] += 1
        @settled.broadcast
      end
    end

    # The connection is gone: everything sent over it waits again.
    def unsend
      @lock.synchronize do
        @lanes.each do |lane|
          sent, lane.sent = lane.sent, []
          sent.each { |entry| entry.number = nil }
          lane.put_back(sent)
        end
        @sent_bytes = 0
      end
    end

    # Keeps all other threads out until `unlock`. False in a signal handler.
    def lock
      @lock.lock
    rescue ThreadError
      false
    end

    def unlock
      @lock.unlock
    end

    # In the child in which the process goes on. The lines of unsent files are in them still.
    def go_on
      unsend
      @lock.synchronize do
        @counts[:emitted] -= @earlier.size
        @earlier.waiting = []
      end
    end

    def add_earlier(lines)
      @lock.synchronize do
        lines.each { |line| @earlier.waiting << Entry.new(line, @seq += 1, nil, false) }
        @counts[:emitted] += lines.size
      end
    end

    def earlier_left
      @lock.synchronize { @earlier.size }
    end

    # Whether lines of unsent files were taken out before they were settled, since `keep_earlier`.
    def earlier_left_unsettled?
      @earlier_unsettled
    end

    def keep_earlier
      @earlier_unsettled = false
    end

    def sent
      @lock.synchronize { [@lanes.sum { |lane| lane.sent.size }, @sent_bytes] }
    end

    def waiting_lines
      @lock.synchronize { @from_handlers.size + @lanes.sum { |lane| lane.waiting.size } }
    end

    def nothing_to_send?
      waiting_lines.zero?
    end

    def empty?
      @lock.synchronize { waiting_count.zero? }
    end

    # Takes everything out for the unsent file. The block gets [[line, lifecycle]] in order and returns how many it kept.
    # What came from such a file is in it still.
    def take_all
      @lock.synchronize do
        empty_handlers_queue
        lines = [[@lifecycle, true], [@details, false]].flat_map { |lane, lifecycle| entries(lane).map { |entry| [entry, lifecycle] } }
        lines = lines.sort_by { |entry, _| entry.seq }.map { |entry, lifecycle| [entry.line, lifecycle] }
        kept = lines.empty? ? 0 : yield(lines)
        @counts[:kept] += kept + @earlier.size
        @earlier_unsettled = true if @earlier.size.positive?
        @counts[:dropped] += lines.size - kept
        clear
        @settled.broadcast
      end
    end

    # Waits until everything pushed so far is settled; false where the time is over first.
    def wait_settled(deadline)
      @lock.synchronize do
        empty_handlers_queue
        target = @seq
        until settled_to?(target)
          left = deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC)
          return false if left <= 0

          @settled.wait(@lock, left)
        end
        true
      end
    end

    # How many events were dropped because it was full.
    attr_reader :overflowed

    # Whether half of it is free again.
    def roomy?
      @bytes <= @limit_bytes / 2
    end

    def stats
      @lock.synchronize do
        empty_handlers_queue
        { emitted: 0, acknowledged: 0, refused: 0, dropped: 0, kept: 0, waiting: waiting_count }.merge(@counts)
      end
    end

    private

    def add(line, lifecycle, truncated)
      entry = Entry.new(line, @seq += 1, nil, truncated)
      (lifecycle ? @lifecycle : @details).waiting << entry
      @bytes += cost(entry)
      @counts[:emitted] += 1
      @counts[:truncated] += 1 if truncated
      drop_oldest while @bytes > @limit_bytes
    end

    def take_sent(number)
      @lock.synchronize do
        @lanes.each do |lane|
          next unless (entry = lane.find_sent(number))

          lane.sent.delete(entry)
          @sent_bytes -= entry.line.bytesize
          yield lane, entry
          return
        end
      end
    end

    def cost(entry)
      entry.line.bytesize + ENTRY_OVERHEAD
    end

    def empty_handlers_queue
      add(*@from_handlers.pop(true)) until @from_handlers.empty?
    end

    def drop_oldest
      entry = @details.remove_oldest || @lifecycle.remove_oldest
      @bytes -= cost(entry)
      @sent_bytes -= entry.line.bytesize if entry.number
      @counts[:dropped] += 1
      @overflowed += 1
    end

    def replace(lane, entry, line)
      @bytes += line.bytesize - entry.line.bytesize unless lane.equal?(@earlier)
      entry.line = line
      entry.reduced = true
      @counts[:truncated] += 1
    end

    def next_lane
      return @earlier if @earlier.waiting.any?

      lifecycle, detail = @lifecycle.waiting.first, @details.waiting.first
      return detail && @details unless lifecycle

      detail.nil? || lifecycle.seq < detail.seq ? @lifecycle : @details
    end

    # Lifecycle events first, then one other, then none until that is settled.
    def probed_lane
      return @lifecycle if @lifecycle.waiting.any?
      return if @earlier.sent.any? || @details.sent.any?

      [@earlier, @details].find { |lane| lane.waiting.any? }
    end

    def settle(lane, number)
      sent = lane.sent
      while sent.any? && sent.first.number <= number
        entry = sent.shift
        @sent_bytes -= entry.line.bytesize
        @bytes -= cost(entry) unless lane.equal?(@earlier)
        @counts[:acknowledged] += 1
      end
    end

    def settled_to?(seq)
      @lanes.all? { |lane| (oldest = lane.oldest_seq).nil? || oldest > seq }
    end

    def entries(lane)
      lane.sent + lane.waiting
    end

    def waiting_count
      @lanes.sum(&:size)
    end

    def clear
      @lanes.each { |lane| lane.waiting, lane.sent = [], [] }
      @bytes = @sent_bytes = 0
    end
  end
end
