# frozen_string_literal: true

# The jobs of test_active_job.rb.

class Plain < ActiveJob::Base
  def perform(what, _more = nil)
    RunRecorder.current.progress(1)
    raise KeyError, "no such key" if what == "raise"
  end
end

class Retried < ActiveJob::Base
  retry_on RuntimeError, wait: 0, attempts: 3

  def perform(_what)
    raise "again"
  end
end

class RetriedWithBlock < ActiveJob::Base
  retry_on(RuntimeError, wait: 0, attempts: 2) { |_job, _error| nil }

  def perform
    raise "again"
  end
end

class Discarded < ActiveJob::Base
  discard_on RuntimeError

  def perform
    raise "unwanted"
  end
end

class Halted < ActiveJob::Base
  before_perform { throw :abort }

  def perform; end
end

class Outer < ActiveJob::Base
  def perform
    Discarded.perform_now
  end
end
