# frozen_string_literal: true

module RunRecorder
  # What earlier processes left in unsent files, fed into the buffer piece by piece; a file is removed when each of its lines is
  # settled. The sender's thread alone (`close` also in a forked child).
  class Earlier
    def initialize(unsent, buffer)
      @unsent = unsent
      @buffer = buffer
      @files = []
    end

    # At each new connection.
    def look
      @buffer.keep_earlier
      @files = @unsent.files
      @files = [@reader.path] | @files if @reader
    end

    # The next piece, once the one before is settled. Files without one are left behind on the way.
    def feed
      return if @buffer.earlier_left.positive?
      return forget if @buffer.earlier_left_unsettled?

      until @files.empty?
        lines = next_lines
        return @buffer.add_earlier(lines) if lines
      end
    end

    def close
      @reader&.close
      @reader = nil
    end

    private

    # nil at the end of the file, and where it cannot be read.
    def next_lines
      @reader ||= Unsent::Reader.new(@files.first)
      lines = @reader.lines
      lines.empty? ? removed : lines
    rescue SystemCallError, IOError
      skip
    end

    def removed
      @reader.remove
      @reader = nil
      @files.shift
      nil
    end

    def skip
      close
      @files.shift
      nil
    end

    # The process is ending, and the lines stay where they are.
    def forget
      close
      @files = []
    end
  end
end
