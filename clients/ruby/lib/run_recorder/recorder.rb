# frozen_string_literal: true

module RunRecorder
  # A client of one daemon. Any thread may call, also in a signal handler and after a fork; nothing here raises into the work.
  class Recorder
    BUFFER_BYTES = 16 * 1024 * 1024
    MAX_EVENT_BYTES = 1024 * 1024
    FLUSH_TIMEOUT_S = 2
    SYSTEM_SOCKET = "/run/run-recorder/events.sock"

    Options = Struct.new(:socket, :buffer_bytes, :flush_timeout, :max_event_bytes)

    # A Timeout, Thread#raise or Thread#kill that hits while an event is made waits until it is made: it is meant for the work.
    LATER = { Object => :never }.freeze

    def initialize(socket: nil, buffer_bytes: nil, flush_timeout: nil, max_event_bytes: nil, logger: nil, **unknown)
      Thread.handle_interrupt(LATER) { set_up(socket, buffer_bytes, flush_timeout, max_event_bytes, logger, unknown) }
    end

    # As bytes, like all paths here.
    def self.default_socket
      given = Text.environment("RUN_RECORDER_SOCKET_PATH")
      return given unless given.empty?

      folder = Text.environment("XDG_RUNTIME_DIR")
      own = File.join(folder, "run-recorder", "events.sock")
      !folder.empty? && File.exist?(own) ? own : SYSTEM_SOCKET.b
    end

    # Sends any event of the protocol. Returns nil.
    def event(run_id, type, fields = nil, **more)
      unharmed { record(run_id, type, named(fields, more)) }
      nil
    end

    # Records the block as a run, and returns or raises what it does. Further fields are those of run_started: input, attempt,
    # queue, job_id, expires_in and others.
    def run(council, run_id: nil, parent: nil, **fields)
      run = Run.new(self, run_id)
      Outcome.new(run, { council: council, parent_attempt_run_id: parent }.merge(fields)).around { yield run }
    end

    # Waits until everything so far is settled; false where `timeout` seconds are not enough.
    def flush(timeout = @options.flush_timeout)
      @disabled || waiting(timeout) { |seconds| pipeline.flush(seconds) }
    end

    # Flushes, and writes what is left into the unsent file. Events afterwards are dropped.
    def close(timeout = @options.flush_timeout)
      @disabled || waiting(timeout) { |seconds| pipeline.close(seconds) }
    end

    # How many events were emitted, and what became of them: emitted = acknowledged + refused + dropped + kept + waiting.
    def stats
      waiting(1) { pipeline.stats } || {}
    end

    private

    def set_up(socket, buffer_bytes, flush_timeout, max_event_bytes, logger, unknown)
      @log = Log.new(logger)
      @log.warn("unknown options: #{unknown.keys.map { |name| Text.of(name) }.join(", ")}") unless unknown.empty?
      @disabled = Text.environment("RUN_RECORDER_DISABLED") == "1"
      @options = Options.new(path(socket), number(buffer_bytes, BUFFER_BYTES).to_i,
                             number(flush_timeout, FLUSH_TIMEOUT_S), number(max_event_bytes, MAX_EVENT_BYTES).to_i)
      @lock = Mutex.new
    end

    def record(run_id, type, fields)
      return if @disabled

      run_id = Event.run_id(run_id)
      return pipeline.count_refused unless run_id

      type = Event.type(type)
      line, truncated = Event.line(type, run_id, fields, @options.max_event_bytes)
      pipeline.push(line, Event.lifecycle?(type), truncated, Event.id(fields["id"]))
    end

    # With text keys; of two that become the same the later counts.
    def named(*hashes)
      hashes.each_with_object({}) do |hash, result|
        next unless Hash === hash

        hash = {}.merge!(hash) unless hash.instance_of?(Hash) # a subclass may do as it likes
        hash.each_pair { |key, value| result[String === key || Symbol === key ? key_text(key) : Text.of(key)] = value }
      end
    end

    def key_text(key)
      Symbol === key ? key.to_s : Text.clean(key)
    end

    # Whatever goes wrong in here stays here.
    def unharmed
      Thread.handle_interrupt(LATER) do
        begin
          yield
        rescue *TROUBLE => e
          trouble(e)
        end
      end
    end

    def trouble(error)
      pipeline.count_refused
      return if @trouble_said

      @trouble_said = true
      @log.warn("an event could not be made: #{error.class}: #{Text.reason(error)}")
    rescue *TROUBLE
      nil
    end

    # False where it fails. In a signal handler no lock can be taken, but another thread may.
    def waiting(timeout, &work)
      seconds = number(timeout, @options.flush_timeout)
      begin
        work.call(seconds)
      rescue ThreadError
        in_thread(seconds, &work)
      end
    rescue *TROUBLE
      false
    end

    def in_thread(seconds)
      thread = Thread.new { yield seconds }
      thread.report_on_exception = false
      thread.join(seconds + 1) ? thread.value : false
    end

    def pipeline
      @pipeline && @pipeline.pid == Process.pid ? @pipeline : new_pipeline
    end

    def new_pipeline
      @lock.synchronize { make_pipeline }
    rescue ThreadError # a signal handler
      make_pipeline
    end

    def make_pipeline
      return @pipeline if @pipeline && @pipeline.pid == Process.pid

      inherited = @pipeline
      @pipeline = Pipeline.new(@options, @log)
      inherited&.close_inherited
      @pipeline
    end

    def number(given, default)
      Numeric === given && given.real? && given.to_f.finite? && given >= 0 ? given : default
    rescue Unreadable
      default
    end

    def path(given)
      nil.equal?(given) ? Recorder.default_socket : Text.path(given)
    rescue Unreadable => e
      @log.warn("the option socket is no path: #{Text.reason(e)}")
      Recorder.default_socket
    end
  end
end
