# frozen_string_literal: true

# All tests: ruby test/all.rb
Dir[File.join(__dir__, "test_*.rb")].sort.each { |path| require path }
