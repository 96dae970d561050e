# frozen_string_literal: true

require "socket"

module RunRecorder
  # A pair of sockets (IO.pipe raises where the default encoding is UTF-16) by which any thread, also in a
  # signal handler, ends a wait of the sender's thread. Until it is opened nobody waits.
  class Wake
    # Raises SystemCallError where there is no free file descriptor.
    def open
      @reader, @writer = UNIXSocket.pair unless @writer
    end

    def call
      @writer&.write_nonblock(".", exception: false)
    rescue IOError, SystemCallError
      nil
    end

    # Waits for a call, and for the given socket; takes the calls back.
    def wait(seconds, readable: nil, writable: nil)
      ready, = IO.select([@reader, readable].compact, [writable].compact, nil, seconds)
      @reader.read_nonblock(4096, exception: false) if ready&.include?(@reader)
    end

    def close
      @reader&.close
      @writer&.close
    rescue IOError, SystemCallError
      nil
    end
  end
end
