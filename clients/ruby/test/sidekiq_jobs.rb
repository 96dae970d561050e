# frozen_string_literal: true

# What the sidekiq process of test_sidekiq.rb works on.

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "sidekiq"
require "active_job"
require "run_recorder"

redis = { url: ENV.fetch("TEST_REDIS_URL") }
Sidekiq.configure_client { |config| config.redis = redis }
Sidekiq.configure_server do |config|
  config.redis = redis
  config.average_scheduled_poll_interval = 1
  config.server_middleware { |chain| chain.add RunRecorder::Sidekiq, input: true }
end
RunRecorder::ActiveJob.attach(queued: true)

class Succeeds
  include Sidekiq::Worker

  def perform(*)
    RunRecorder.current.progress(1, 1, "jobs")
    "what sidekiq drops"
  end
end

# Raises as long as its file is there.
class Fails
  include Sidekiq::Worker
  sidekiq_options retry: 1

  def perform(path)
    raise ArgumentError, "the file is there" if File.exist?(path)
  end
end

class FailsForGood
  include Sidekiq::Worker
  sidekiq_options retry: false

  def perform
    raise "never again"
  end
end

# Until its file is gone.
class Waits
  include Sidekiq::Worker

  def perform(path)
    sleep 0.05 while File.exist?(path)
  end
end

class PlainJob < ActiveJob::Base
  self.queue_adapter = :sidekiq

  def perform(path)
    raise ArgumentError, "the file is there" if File.exist?(path)
  end
end

class RetriedJob < ActiveJob::Base
  self.queue_adapter = :sidekiq
  retry_on ArgumentError, wait: 0, attempts: 2

  def perform(path)
    raise ArgumentError, "the file is there" if File.exist?(path)
  end
end
