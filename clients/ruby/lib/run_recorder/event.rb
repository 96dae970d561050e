# frozen_string_literal: true

require "digest/sha2"
require "json"

module RunRecorder
  # Makes an event's line: the fields in the form that the daemon takes, whatever they were. Pure but for the clock; any thread.
  #
  # A line lacks its `id` and newline until Buffer gives it a place: `{"type":…,…` is completed by Event.finish.
  module Event
    MAX_TYPE_BYTES = 64
    MAX_RUN_ID_BYTES = 255
    MAX_ID_CHARS = 64
    REDUCED_ERRORS = 10
    REDUCED_USAGE_KEYS = 100

    LIFECYCLE = %w[run_queued run_started run_completed run_failed run_lost].freeze
    WITHOUT_WORKER_PID = %w[run_queued run_heartbeat run_lost].freeze
    INT32 = (1..2**31 - 1).freeze
    INT63 = (1..2**63 - 1).freeze

    # Field => how it is made fit, for each type that knows it: an Integer is a text's limit in bytes, a Range an integer's bounds.
    HEAD = { "type" => :head, "run_id" => :head, "id" => :head, "at" => :head, "worker_pid" => :head }.freeze
    COMMON = HEAD.merge("usage" => :usage, "progress" => :progress).freeze
    BEGINNING = COMMON.merge(
      "council" => 255, "input" => :value, "attempt" => INT32, "parent_attempt_run_id" => :run_id, "queue" => 64, "job_id" => :job_id,
      "oban_job_id" => INT63, "host" => 255, "unit" => 255, "user" => 255, "cwd" => 1024, "command" => 1024
    ).freeze
    EXPIRING = { "expires_in" => (1..2_678_400).freeze }.freeze
    ENDING = COMMON.merge("job_state" => 64, "result" => :value).freeze
    FIELDS = {
      "run_queued" => BEGINNING,
      "run_started" => BEGINNING.merge(EXPIRING).freeze,
      "run_heartbeat" => COMMON.merge(EXPIRING).freeze,
      "run_completed" => ENDING,
      "run_failed" => ENDING.merge("errors" => :errors).freeze,
      "run_lost" => COMMON.merge("message" => 64 * 1024).freeze
    }.freeze
    DETAIL = COMMON.merge("payload" => :payload).freeze
    LARGE = %i[value payload].freeze

    module_function

    # The line without its end, and whether it was reduced. `fields` has text keys.
    def line(type, run_id, fields, max_bytes)
      body = generate(head(type, run_id, fields).merge!(body(type, fields, Values.new(max_bytes))))
      return [body, false] if body.bytesize + 64 <= max_bytes

      [reduced(type, run_id, fields, max_bytes), true]
    rescue *TROUBLE # too large, mostly
      [reduced(type, run_id, fields, max_bytes), true]
    end

    def finish(line, id)
      "#{line},\"id\":\"#{id}\"}\n"
    end

    # A whole line, as it was refused by the daemon, without what may have been the reason. Raises JSON::ParserError.
    def reduce(line, max_bytes)
      fields = JSON.parse(line, max_nesting: false)
      fields["worker_pid"] ||= nil # a line without one stays without
      finish(reduced(fields["type"], fields["run_id"], fields, max_bytes), fields["id"])
    end

    def lifecycle?(type)
      LIFECYCLE.include?(type)
    end

    # nil where there is none.
    def run_id(given)
      text = String === given ? Text.clean(given) : Text.of(given)
      return nil if text.empty?
      return text if text.bytesize <= MAX_RUN_ID_BYTES

      "#{Text.cut(text, 200)}~#{Digest::SHA256.hexdigest(text)[0, 32]}"
    end

    # The caller's own id for an event, where it is one that the daemon takes.
    def id(given)
      return unless String === given && given.bytesize <= 4 * MAX_ID_CHARS

      text = Text.clean(given)
      text if /\A[\w.:-]{1,64}\z/.match?(text)
    end

    def type(given)
      text = String === given && given.bytesize <= MAX_TYPE_BYTES ? Text.clean(given) : Text.of(given)
      return text if /\A[a-z][a-z0-9_.]{0,63}\z/.match?(text)

      text = text.downcase.gsub(/[^a-z0-9_.]/, "_")
      text = "event_#{text}" unless text.match?(/\A[a-z]/)
      Text.cut(text, MAX_TYPE_BYTES)
    end

    # The rest is private to this module.

    def generate(object)
      JSON.generate(object).chop!
    end

    def head(type, run_id, fields)
      head = { "type" => type, "run_id" => run_id, "at" => at(fields["at"]) }
      pid = worker_pid(type, fields)
      head["worker_pid"] = pid if pid
      head
    end

    def at(given)
      return now if nil.equal?(given)
      return given.getutc.strftime("%Y-%m-%dT%H:%M:%S.%6NZ") if Time === given

      text = String === given ? Text.clean(given) : ""
      /\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\z/.match?(text) ? text : now
    rescue Unreadable
      now
    end

    # The text of a second is made once: that is most of the work.
    def now
      second, microsecond = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond).divmod(1_000_000)
      last, text = @second
      unless second == last
        text = Time.at(second).utc.strftime("%Y-%m-%dT%H:%M:%S.")
        @second = [second, text].freeze
      end
      "#{text}#{microsecond.to_s.rjust(6, "0")}Z"
    end

    # This process, unless the caller names another or says nil or false: it sends for others.
    def worker_pid(type, fields)
      return integer(fields["worker_pid"], INT32) if fields.key?("worker_pid")

      Process.pid unless WITHOUT_WORKER_PID.include?(type)
    end

    def body(type, fields, values)
      known = FIELDS.fetch(type, DETAIL)
      result = {}
      fields.each do |name, given|
        kind = known[name]
        next if kind == :head

        made = kind ? fit(kind, given, values) : values.convert(given)
        name = values.key(name) unless kind
        result[name] = made unless made.nil? && !(nil.equal?(given) && kind == :value)
      end
      known.equal?(DETAIL) ? without_doubles(result) : result
    end

    def reduced(type, run_id, fields, max_bytes)
      values = Values.new(max_bytes)
      known = FIELDS.fetch(type, DETAIL)
      kept = fields.select { |name, _| known.key?(name) && !LARGE.include?(known[name]) }
      kept["errors"] = reduced_errors(kept["errors"]) if kept.key?("errors")
      kept["usage"] = kept["usage"].first(REDUCED_USAGE_KEYS).to_h if Hash === kept["usage"]
      generate(head(type, run_id, fields).merge!(body(type, kept, values)).merge!("truncated" => true))
    end

    # The daemon adds further fields of a detail to its payload, and refuses a name that is in both.
    def without_doubles(result)
      payload = result["payload"]
      payload ? result.reject { |name, _| name != "payload" && !COMMON.key?(name) && payload.key?(name) } : result
    end

    def fit(kind, given, values)
      return if nil.equal?(given) && kind != :value

      case kind
      when :value then values.convert(given)
      when :payload then payload(given, values)
      when :progress then progress(given)
      when :usage then usage(given, values)
      when :errors then errors(given, values)
      when :run_id then run_id(given)
      when :job_id then Integer === given && INT63.cover?(given.abs) ? given : text(given, 255)
      when Integer then text(given, kind)
      when Range then integer(given, kind)
      end
    end

    def text(given, limit)
      text = Text.cut(String === given ? Text.clean(given.byteslice(0, limit + 4)) : Text.of(given, limit), limit)
      text unless text.empty?
    end

    def integer(given, bounds)
      number = number(given)&.to_i
      number if number && bounds.cover?(number)
    end

    # A number that JSON and a double can hold, else nil. Decimals and durations become floats.
    def number(given)
      return (given if given.abs < Values::INTEGER_LIMIT) if Integer === given

      float = given.to_f if (Numeric === given && given.real?) || duration?(given)
      float if float&.finite?
    rescue Unreadable
      nil
    end

    def duration?(given)
      defined?(::ActiveSupport::Duration) && ::ActiveSupport::Duration === given
    end

    def payload(given, values)
      made = values.convert(given)
      Hash === made ? made : { "value" => made }
    end

    def errors(given, values)
      made = values.convert(Array === given ? given.map { |error| error(error) } : [error(given)])
      made = [made] unless Array === made
      made.map { |error| String === error || Hash === error ? error : error.to_s }
    end

    def error(given)
      Exception === given ? Failure.describe(given) : given
    end

    def usage(given, values)
      return unless Hash === given

      given.to_a.each_with_object({}) do |(key, value), result|
        number = number(value)
        result[values.key(key)] = number unless number.nil?
      end
    end

    def progress(given)
      return unless Hash === given

      done, total, unit = member(given, "done"), member(given, "total"), member(given, "unit")
      made = { "done" => number(done) }
      made["total"] = number(total) unless nil.equal?(total)
      return if made.value?(nil)

      unit = text(unit, 64) unless nil.equal?(unit)
      made["unit"] = unit if unit
      made
    end

    # By its text or symbol, without asking a hash's default.
    def member(hash, name)
      hash.fetch(name) { hash.fetch(name.to_sym, nil) }
    end

    def reduced_errors(given)
      (Array === given ? given : [given]).first(REDUCED_ERRORS).map do |error|
        error = error(error)
        next Text.of(error) unless Hash === error

        %w[kind message].map { |name| [name, member(error, name)] }.to_h.compact.transform_values { |text| Text.of(text) }
      end
    end
  end
end
