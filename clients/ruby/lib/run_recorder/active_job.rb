# frozen_string_literal: true

require "run_recorder"

module RunRecorder
  # Records each execution of ActiveJob's jobs as a run, whatever the backend:
  #
  #     RunRecorder::ActiveJob.attach
  #
  # It is put around `perform_now`, and hears from ActiveJob's notifications what became of an error (retry_on, discard_on).
  # Called once, before jobs run; everything else happens on the threads of the work.
  module ActiveJob
    QUEUE = "active_job"
    EXECUTIONS = :run_recorder_active_job_executions
    STATES = { "enqueue_retry" => "retryable", "retry_stopped" => "discarded", "discard" => "discarded" }.freeze

    class << self
      # Options: `council` (callable: job → name; the class), `input` (true: records the arguments, which may hold
      # passwords; never for classes with `self.log_arguments = false`), `queue` (the name of this queue for the daemon, "active_job"), `queued` (true:
      # also run_queued when a job is enqueued), `ignore` (callable: job → true where it is not recorded), `recorder`.
      def attach(options = {})
        @options = options
        return if attached?

        require "active_support"
        require "active_support/notifications"
        @attached = true
        ::ActiveSupport.on_load(:active_job) { prepend Performing }
        listen
        watch_sidekiq
      end

      def attached?
        @attached ? true : false
      end

      # The run_id of one execution, from anywhere. `again`: which one it is where the backend itself runs a job again.
      def run_id(job_id, executions = 1, again = nil)
        ["active_job", job_id, executions, again].compact.join("-")
      end

      # Around `perform_now`.
      def record(job, &work)
        execution = start(job)
        return work.call unless execution

        stack = (Thread.current[EXECUTIONS] ||= [])
        begin
          stack.push(execution)
          execution.around(&work)
        ensure
          Thread.handle_interrupt(Recorder::LATER) { stack.delete(execution) }
        end
      end

      private

      def start(job)
        Unreadable.harmless { execution(job) unless @options[:ignore]&.call(job) }
      end

      def execution(job)
        executions = job.executions.to_i + 1
        retried = sidekiq_retry(job)
        run = Run.new(recorder, run_id(job.job_id, executions, retried && Sidekiq.execution(retried)))
        Execution.new(run, started_fields(job, executions, retried), job)
      end

      def recorder
        @options[:recorder] || RunRecorder.default
      end

      # Sidekiq's own retry gives the same serialized job again: its hash there, nil otherwise.
      def sidekiq_retry(job)
        current = Sidekiq.current_job
        current if current && current["jid"] == job.provider_job_id && Sidekiq.execution(current) != "1"
      end

      def started_fields(job, executions, retried)
        attempt = executions + (retried ? Sidekiq.attempt(retried) - 1 : 0)
        fields = job_fields(job).merge("attempt" => attempt, "provider_job_id" => job.provider_job_id)
        fields["parent_attempt_run_id"] = run_id(job.job_id, executions) if retried
        fields["parent_attempt_run_id"] ||= run_id(job.job_id, executions - 1) if executions > 1
        fields
      end

      def job_fields(job)
        council = @options[:council] ? @options[:council].call(job) : job.class.name
        fields = { "council" => council.to_s, "job_id" => job.job_id, "queue" => @options[:queue] || QUEUE,
                   "active_job_queue" => job.queue_name }
        fields["input"] = job.serialize["arguments"] if input?(job)
        fields
      end

      def input?(job)
        @options[:input] && !(job.class.respond_to?(:log_arguments?) && !job.class.log_arguments?)
      end

      def listen
        STATES.each { |name, state| on(name) { |payload| tell(payload) { |run| run.handled(payload[:error], state) } } }
        on("perform") { |payload| tell(payload, &:aborted) if payload[:aborted] }
        %w[enqueue enqueue_at].each { |name| on(name) { |payload| queued(payload[:job]) if @options[:queued] && put?(payload) } }
      end

      # A subscriber that raises would harm the job.
      def on(name)
        ::ActiveSupport::Notifications.subscribe("#{name}.active_job") { |*, payload| Unreadable.harmless { yield payload } }
      end

      def tell(payload)
        execution = (Thread.current[EXECUTIONS] || []).reverse.find { |candidate| candidate.job.equal?(payload[:job]) }
        yield execution if execution && !payload[:exception]
      end

      def put?(payload)
        !payload[:exception] && !payload[:aborted]
      end

      def queued(job)
        executions = job.executions.to_i + 1
        recorder.event(run_id(job.job_id, executions), "run_queued", job_fields(job).merge("attempt" => executions))
      end

      # The middleware tells which retry of Sidekiq's it is.
      def watch_sidekiq
        return unless defined?(::Sidekiq) && ::Sidekiq.respond_to?(:configure_server)

        ::Sidekiq.configure_server do |config|
          config.server_middleware { |chain| chain.add(Sidekiq) unless chain.exists?(Sidekiq) }
        end
      end
    end

    # In front of ActiveJob::Base.
    module Performing
      def perform_now
        RunRecorder::ActiveJob.record(self) { super }
      end
    end

    # One execution of a job. ActiveJob drops what `perform` returns, so that is no result.
    class Execution < Outcome
      attr_reader :job

      def initialize(run, started, job)
        super(run, started)
        @job = job
      end

      # retry_on, discard_on or retry_job dealt with the error; without one the job goes on.
      def handled(error, state)
        @error, @state = error, state if error
      end

      def aborted
        @aborted = true
      end

      private

      def returned(_value)
        return failed([{ "kind" => "cancelled", "message" => "a before_perform callback halted the job" }]) if @aborted
        return completed unless @error

        ended_with(@error, @state)
      end

      def raised(exception)
        return lost("put back into its queue: #{exception.class}") if Sidekiq.put_back?(exception)

        ended_with(exception, backend_state || @state)
      end

      def ended_with(exception, state)
        @fields = { "job_state" => state }
        finish(*Failure.end_of(exception))
      end

      # What Sidekiq does with an error that ActiveJob let through.
      def backend_state
        current = Sidekiq.current_job
        Sidekiq.state_after_failure(::Object.const_get(current["class"]).allocate, current) if current
      rescue *TROUBLE
        nil
      end
    end
  end
end
