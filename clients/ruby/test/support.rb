# frozen_string_literal: true

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "fileutils"
require "json"
require "minitest/autorun"
require "minitest/mock"
require "rbconfig"
require "socket"
require "stringio"
require "tmpdir"
require "run_recorder"

# Where the unsent files of these tests go, and nobody else's.
ENV["XDG_STATE_HOME"] = Dir.mktmpdir("run-recorder-state")
Minitest.after_run { FileUtils.rm_rf(ENV["XDG_STATE_HOME"]) }

module Support
  DEADLINE_S = 60

  def self.wait_until(what)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + DEADLINE_S
    until (value = yield)
      raise "waited #{DEADLINE_S} s in vain for #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

      sleep 0.02
    end
    value
  end

  # A socket's file is there before its server listens.
  def self.accepts?(path)
    UNIXSocket.new(path).close
    true
  rescue SystemCallError
    false
  end

  # A daemon of its own, in a folder of its own. RUN_RECORDER_BIN names the folder with the two programs.
  class Daemon
    BIN = ENV["RUN_RECORDER_BIN"]
    GRACE = "1s"

    # Without what configures run-recorder in the caller's environment; it refuses names that it does not know.
    CLEAN = ENV.keys.grep(/\ARUN_RECORDER_/).to_h { |name| [name, nil] }.freeze

    attr_reader :folder

    def self.missing
      return if BIN && File.executable?(File.join(BIN, "run-recorderd"))

      "RUN_RECORDER_BIN names no folder with run-recorderd and run-recorder"
    end

    def initialize
      @folder = Dir.mktmpdir("run-recorder-test")
    end

    def start
      @pid = spawn(CLEAN.merge("RUNTIME_DIRECTORY" => folder, "STATE_DIRECTORY" => folder, "RUN_RECORDER_RECONCILE_GRACE" => GRACE),
                   File.join(BIN, "run-recorderd"), %i[out err] => File.join(folder, "log"), in: File::NULL, pgroup: true)
      Support.wait_until("the daemon") { Support.accepts?(socket) && Support.accepts?(control) }
      self
    end

    def socket
      File.join(folder, "events.sock")
    end

    def control
      File.join(folder, "control.sock")
    end

    def signal(name)
      Process.kill(name, @pid)
    end

    def stop(name = "KILL")
      return unless @pid

      signal("CONT")
      signal(name)
      Process.wait(@pid)
      @pid = nil
    end

    def remove
      stop
      FileUtils.rm_rf(folder)
    end

    # What `run-recorder` says, as objects.
    def ask(*words)
      output = IO.popen([CLEAN, File.join(BIN, "run-recorder"), "--control", control, *words, "--json"],
                        err: File::NULL, in: File::NULL, &:read)
      output.lines.map { |line| JSON.parse(line) }
    end

    def runs
      ask("list", "--limit", "1000").to_h { |row| [row["run_id"], row] }
    end

    def run(id)
      ask("show", id).first
    end

    # The row, once it has that status.
    def wait_for(id, status)
      Support.wait_until("#{id} to be #{status}, not #{run(id) && run(id)["status"]}") do
        row = run(id)
        row if row && row["status"] == status
      end
    end

    def history(id)
      ask("events", id)
    end
  end

  warn("tests with a daemon are skipped: #{Daemon.missing}") if Daemon.missing

  # For a test class: `daemon` and `recorder`, and a Ruby of its own where a process has to end.
  module WithDaemon
    LIB = File.expand_path("../lib", __dir__)

    attr_reader :daemon

    def setup
      skip(Daemon.missing) if Daemon.missing
      @daemon = Daemon.new.start
      @log = StringIO.new
    end

    def teardown
      @recorder&.close(0)
      @daemon&.remove
    end

    def recorder(**options)
      @recorder ||= RunRecorder::Recorder.new(socket: daemon.socket, logger: Logger.new(@log), **options)
    end

    # Runs a script and returns its exit status.
    def ruby(script, **environment)
      environment = Daemon::CLEAN.merge("RUN_RECORDER_SOCKET_PATH" => daemon.socket).merge(environment.transform_keys(&:to_s))
      @output = IO.popen(environment, [RbConfig.ruby, "-I", LIB, "-e", script], err: %i[child out], in: File::NULL, &:read)
      $CHILD_STATUS
    end
  end
end

require "English"
require "logger"
