# frozen_string_literal: true

module RunRecorder
  # How an exception is written into `errors`, and which outcome of the work it means. Pure functions, any thread.
  module Failure
    STACKTRACE_BYTES = 8 * 1024 # the innermost frames, which Ruby lists first

    module_function

    # The type and fields of the event that ends a run whose work raised.
    def end_of(exception)
      case exception
      when SystemExit then exit_of(exception)
      when SignalException then ["run_failed", { "errors" => [describe(exception, "cancelled")] }]
      else ["run_failed", { "errors" => [describe(exception)] }]
      end
    end

    def exit_of(exception)
      return ["run_completed", {}] if exception.success?

      ["run_failed", { "errors" => [describe(exception, "exit").merge("status" => exception.status)] }]
    end

    # The exception by which newer versions of Timeout unwind the block; outside of it the Timeout::Error is seen.
    UNWINDING = "Timeout::ExitException"

    def kind(exception)
      kind = Text.of(exception.class)
      kind == UNWINDING ? "Timeout::Error" : kind
    end

    def describe(exception, kind = kind(exception))
      { "kind" => kind, "message" => message(exception), "stacktrace" => stacktrace(exception) }.reject { |_, text| text.empty? }
    end

    def message(exception)
      Text.clean(exception.message.to_s)
    rescue Unreadable => e
      Text.unreadable(e)
    end

    def stacktrace(exception)
      lines = exception.backtrace
      lines ? Text.cut(Text.clean(lines.first(200).map { |line| Text.clean(line) }.join("\n")), STACKTRACE_BYTES) : ""
    rescue Unreadable
      ""
    end
  end
end
