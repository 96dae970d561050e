# frozen_string_literal: true

module RunRecorder
  # One event in the buffer. line: with its newline. seq: its place among all events. number: its line number on the connection,
  # nil while it waits. reduced: whether it lost its values.
  Entry = Struct.new(:line, :seq, :number, :reduced)

  # The entries of one rank in the buffer; `waiting` and `sent` are both in order of seq. Used under the buffer's lock alone.
  class Lane
    attr_accessor :waiting, :sent

    def initialize
      @waiting = []
      @sent = []
    end

    def size
      @waiting.size + @sent.size
    end

    def oldest_seq
      [@waiting.first, @sent.first].compact.map(&:seq).min
    end

    # Back to where it waited, in order.
    def put_back(entries)
      return if entries.empty?

      out_of_order = @waiting.any? && entries.last.seq > @waiting.first.seq
      @waiting.unshift(*entries)
      @waiting.sort_by!(&:seq) if out_of_order
    end

    def remove_oldest
      @waiting.shift || @sent.shift
    end

    def find_sent(number)
      entry = @sent.bsearch { |sent| sent.number >= number }
      entry if entry && entry.number == number
    end
  end
end
