# frozen_string_literal: true

require "socket"

module RunRecorder
  # One connection to the daemon: writes lines and reads answers without ever waiting. Used by the sender's thread alone.
  class Connection
    class Ended < StandardError; end

    READ_BYTES = 64 * 1024
    MAX_ANSWER_BYTES = 1024 * 1024

    attr_reader :socket, :last_number

    # Raises SystemCallError where the daemon is away. A full backlog of a local socket fails at once (EAGAIN).
    def initialize(path)
      @socket = Socket.new(:UNIX, :STREAM)
      @socket.connect_nonblock(Socket.pack_sockaddr_un(path))
      @last_number = 0 # of the lines given to `write`
      @unwritten = +""
      @unread = String.new # bytes
    rescue StandardError
      @socket&.close
      raise
    end

    def write(lines)
      @last_number += lines.size
      @unwritten << lines.join
      write_more
    end

    def unwritten?
      !@unwritten.empty?
    end

    # Raises SystemCallError where the daemon closed the connection; what it said before can still be read.
    def write_more
      until @unwritten.empty?
        written = @socket.write_nonblock(@unwritten, exception: false)
        return if written == :wait_writable

        @unwritten = @unwritten.byteslice(written, @unwritten.bytesize)
      end
    end

    # The answers that are there, as hashes. Raises Ended at the end of the connection, once all of them were given out.
    def answers
      raise Ended, @ended if @ended

      read_all
      raise Ended, @ended if @ended && !@unread.include?("\n")

      whole, _, @unread = @unread.rpartition("\n")
      whole.each_line.map { |line| JSON.parse(line) }
    end

    def close
      @socket.close
    rescue IOError, SystemCallError
      nil
    end

    private

    def read_all
      loop do
        part = @socket.read_nonblock(READ_BYTES, exception: false)
        return if part == :wait_readable
        return @ended = "the daemon closed the connection" if part.nil?

        @unread << part
        raise Ended, "an answer without end" if @unread.bytesize > MAX_ANSWER_BYTES
      end
    rescue SystemCallError => e
      @ended = e.message
    end
  end
end
