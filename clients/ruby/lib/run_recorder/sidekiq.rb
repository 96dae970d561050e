# frozen_string_literal: true

require "run_recorder"

module RunRecorder
  # Server middleware of Sidekiq: each execution of a job is a run.
  #
  #     Sidekiq.configure_server { |config| config.server_middleware { |chain| chain.add RunRecorder::Sidekiq } }
  #
  # Options: `council` (callable: the job's hash → name; the class), `input` (true: records the arguments, which may hold
  # passwords), `queue` (the name of this queue for the daemon, "sidekiq"), `ignore` (callable: the job's hash → true where it is
  # not recorded), `recorder`. Sidekiq makes one instance for each execution and calls it on the thread of the work.
  class Sidekiq
    QUEUE = "sidekiq"
    CURRENT_JOB = :run_recorder_sidekiq_job
    MAX_RETRIES = 25

    # The run_id of the execution of a job as it lies in its queue. The number alone would not do: "Retry" in Sidekiq's page
    # counts one back, so executions after a failure are told apart by its time. One that is put back, or recovered after a
    # crash, keeps its run_id. Of the first execution only the jid counts: RunRecorder::Sidekiq.run_id("jid" => jid).
    def self.run_id(job)
      "sidekiq-#{job["jid"]}-#{execution(job)}"
    end

    # "1" for the first, else attempt and time of the failure before, in milliseconds.
    def self.execution(job)
      failed_at = job["retried_at"] || job["failed_at"]
      return "1" unless failed_at

      "#{attempt(job)}-#{failed_at.is_a?(Integer) ? failed_at : (failed_at.to_f * 1000).round}"
    end

    # Sidekiq counts retries from 0, and not at all in the first execution.
    def self.attempt(job)
      job["retry_count"] ? [job["retry_count"].to_i + 2, 1].max : 1
    end

    # The job that this fiber works on, for RunRecorder::ActiveJob.
    def self.current_job
      Thread.current[CURRENT_JOB]
    end

    # Sidekiq took the work away at its shutdown, or the job was handed over to a later execution: it has the same attempt
    # number, so that one goes on with this run.
    def self.put_back?(exception)
      names = %w[Sidekiq::Shutdown Sidekiq::JobRetry::Handled Sidekiq::Job::Interrupted]
      causes(exception).any? { |cause| cause.class.ancestors.any? { |ancestor| names.include?(ancestor.name) } }
    end

    def self.causes(exception)
      causes = []
      while exception && !causes.include?(exception)
        causes << exception
        exception = exception.cause
      end
      causes
    end
    private_class_method :causes

    # What Sidekiq will do with a job whose execution failed: "retryable", "dead", "discarded"; nil where a block decides.
    def self.state_after_failure(worker, job)
      retries = job["retry"]
      retries = worker.class.get_sidekiq_options["retry"] if retries.nil?
      return "discarded" unless retries
      return if worker.class.sidekiq_retry_in_block

      limit = retries.is_a?(Integer) ? retries : default_retries
      return "retryable" if attempt(job) <= limit

      job["dead"] == false ? "discarded" : "dead"
    rescue *TROUBLE
      nil
    end

    def self.default_retries
      options = ::Sidekiq.respond_to?(:default_configuration) ? ::Sidekiq.default_configuration : ::Sidekiq.options
      options[:max_retries] || MAX_RETRIES
    end
    private_class_method :default_retries

    def initialize(options = {})
      @options = options
    end

    def call(worker, job, _queue, &work)
      return as_current(job, &work) if job["wrapped"] && ActiveJob.attached?

      outcome = start(worker, job)
      outcome ? outcome.around(&work) : yield
    end

    private

    # For jobs that ActiveJob records, which does not know Sidekiq's retries.
    def as_current(job)
      Thread.current[CURRENT_JOB] = job
      yield
    ensure
      Thread.current[CURRENT_JOB] = nil
    end

    # nil where the execution is not to be recorded.
    def start(worker, job)
      Unreadable.harmless { execution(worker, job) unless @options[:ignore]&.call(job) }
    end

    def execution(worker, job)
      recorder = @options[:recorder] || RunRecorder.default
      Execution.new(Run.new(recorder, Sidekiq.run_id(job)), fields(job), worker, job)
    end

    def fields(job)
      council = @options[:council] ? @options[:council].call(job) : job["wrapped"] || job["class"]
      fields = { "council" => council.to_s, "attempt" => Sidekiq.attempt(job), "job_id" => job["jid"],
                 "queue" => @options[:queue] || QUEUE, "sidekiq_queue" => job["queue"] }
      first = Sidekiq.run_id("jid" => job["jid"])
      fields["parent_attempt_run_id"] = first unless Sidekiq.run_id(job) == first
      fields["input"] = job["args"] if @options[:input] && !job["encrypt"]
      fields
    end

    # Sidekiq drops what `perform` returns, so that is no result.
    class Execution < Outcome
      def initialize(run, started, worker, job)
        super(run, started)
        @worker = worker
        @job = job
      end

      private

      def returned(_value)
        completed
      end

      def raised(exception)
        return lost("put back into its queue: #{exception.class}") if Sidekiq.put_back?(exception)

        @fields = { "job_state" => Sidekiq.state_after_failure(@worker, @job) }
        super
      end
    end
  end
end
