# frozen_string_literal: true

require_relative "lib/run_recorder/version"

Gem::Specification.new do |spec|
  spec.name = "run_recorder"
  spec.version = RunRecorder::VERSION
  spec.authors = ["The run-recorder authors"]
  spec.summary = "Records background jobs' lifecycle in the run-recorder daemon"
  spec.description = "Tells run-recorderd when background jobs start, what they did and how they ended. Never raises into a job and " \
                     "never waits for the daemon. With adapters for Sidekiq and ActiveJob, and no dependency."
  spec.license = "Apache-2.0"
  spec.required_ruby_version = ">= 2.7"
  spec.files = Dir.chdir(__dir__) { Dir["lib/**/*.rb", "README.md", "CHANGELOG.md", "LICENSE"] }
  spec.require_paths = ["lib"]
  spec.metadata = { "rubygems_mfa_required" => "true" }
end
