# frozen_string_literal: true

module RunRecorder
  # Turns any value into what JSON can say: hashes with text keys, arrays, clean texts, finite numbers, true, false, nil.
  # Values are read on the caller's thread, when the event is made, because they may change afterwards. One instance serves
  # one event: it has a budget of bytes, and raises TooLarge as soon as the line cannot fit, so that a huge value costs little.
  class Values
    class TooLarge < StandardError; end

    MAX_DEPTH = 60
    INTEGER_DIGITS = 300
    INTEGER_LIMIT = 10**INTEGER_DIGITS
    PAIRS = Hash.instance_method(:to_a) # whatever a subclass makes of it
    FLOAT_NAMES = { 1 => "Infinity", -1 => "-Infinity" }.freeze

    def initialize(budget)
      @budget = budget
      @path = {}.compare_by_identity # the containers around the value that is being read
    end

    def convert(value, depth = 1)
      case value
      when String then text(value)
      when Integer then integer(value)
      when Symbol then text(value.to_s)
      when Hash then inside(value, depth) { hash(value, depth) }
      when Array then inside(value, depth) { array(value, depth) }
      when nil, true, false then spend(4, value)
      when Float then float(value)
      else other(value, depth)
      end
    rescue TooLarge
      raise
    rescue *TROUBLE => e
      text(Text.unreadable(e))
    end

    # A hash key: always a text.
    def key(key)
      text = String === key || Symbol === key ? key.to_s : Text.of(key)
      spend(text.bytesize + 3)
      Text.clean(text)
    rescue TooLarge
      raise
    rescue *TROUBLE => e
      Text.unreadable(e)
    end

    private

    def spend(bytes, value = nil)
      @budget -= bytes
      raise TooLarge if @budget.negative?

      value
    end

    def text(value)
      spend(value.bytesize + 3)
      Text.clean(value)
    end

    def integer(value)
      return spend(value.bit_length / 4 + 2, value) if value.abs < INTEGER_LIMIT

      sign = value.negative? ? "-" : ""
      text(sign + value.abs.to_s[0, INTEGER_DIGITS])
    end

    def float(value)
      return spend(8, value) if value.finite?

      text(FLOAT_NAMES.fetch(value.infinite?, "NaN"))
    end

    def inside(value, depth)
      return text("[too deep]") if depth > MAX_DEPTH
      return text("[cycle]") if @path.key?(value)

      begin
        @path[value] = true
        yield
      ensure
        @path.delete(value)
      end
    end

    # Reads a copy: another thread may add keys, and would get an exception if it did while the hash itself was iterated.
    def hash(value, depth)
      pairs = PAIRS.bind_call(value)
      raise TooLarge if pairs.size * 4 > @budget

      pairs.each_with_object({}) { |(key, element), result| result[self.key(key)] = convert(element, depth + 1) }
    end

    def array(value, depth)
      value = [*value] unless value.instance_of?(Array)
      raise TooLarge if value.size * 2 > @budget

      value.map { |element| convert(element, depth + 1) }
    end

    def other(value, depth)
      by_its_methods(value, depth)
    rescue TooLarge
      raise
    rescue Unreadable => e
      text(Text.unreadable(e))
    end

    def by_its_methods(value, depth)
      case value
      when Exception then hash({ "kind" => value.class.to_s, "message" => value.message }, depth)
      when Time then text(time(value))
      when Numeric then text(number(value))
      when Module, Range, Regexp, Proc, Method, IO then text(Text.of(value))
      else library(value, depth)
      end
    end

    def time(value)
      value.strftime(value.utc_offset.zero? ? "%Y-%m-%dT%H:%M:%S.%6NZ" : "%Y-%m-%dT%H:%M:%S.%6N%:z")
    end

    # BigDecimal, Rational, Complex. A decimal is written out, unless that were mostly zeros.
    def number(value)
      return value.to_s("F") if value.respond_to?(:exponent) && value.finite? && value.exponent.abs <= 100

      Text.of(value)
    end

    # Known by what they can do, because nothing here requires their libraries: Date, models, Set, records.
    def library(value, depth)
      return text(value.iso8601) if value.respond_to?(:iso8601)
      return text(value.to_global_id.to_s) if value.respond_to?(:to_global_id)
      return inside(value, depth) { array(value.to_a, depth) } if set?(value)
      return inside(value, depth) { hash(value.to_h, depth) } if record?(value)

      object(value, depth)
    end

    def set?(value)
      defined?(::Set) && ::Set === value
    end

    # OpenStruct, Data and what is made like them.
    def record?(value)
      value.respond_to?(:to_h) && (value.respond_to?(:members) || value.respond_to?(:each_pair))
    end

    # The instance variables that have public readers (the readers are not called); without any, or inside another such
    # object, its text.
    def object(value, depth)
      names = @in_object ? [] : readable(value)
      return text(Text.of(value)) if names.empty?

      begin
        @in_object = true
        fields = names.map { |name| [name.to_s.delete_prefix("@"), value.instance_variable_get(name)] }
        inside(value, depth) { hash(fields.to_h, depth) }
      ensure
        @in_object = false
      end
    end

    def readable(value)
      value.instance_variables.select { |name| value.respond_to?(name.to_s.delete_prefix("@")) }
    end
  end
end
