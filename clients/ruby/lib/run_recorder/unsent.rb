# frozen_string_literal: true

require "etc"
require "fileutils"
require "securerandom"

module RunRecorder
  # The files in which events wait that a process could not send before it ended. The names and rights are a contract with
  # `run-recorder exec` and `emit`, and with the other clients of the same user. Any thread.
  class Unsent
    MAX_BYTES = 16 * 1024 * 1024

    class Unusable < StandardError; end

    # count: of the lines that are in the file `path`. reason: why others are not. Both are texts.
    Kept = Struct.new(:count, :path, :reason)

    # Reads a file piece by piece. Used by the sender's thread alone.
    class Reader
      CHUNK_BYTES = 1024 * 1024

      attr_reader :path

      # Raises SystemCallError where it is no regular file; a FIFO would keep the sender waiting.
      def initialize(path)
        @path = path
        @file = File.open(path, File::RDONLY | File::NOFOLLOW | File::NONBLOCK, binmode: true)
        raise Errno::EINVAL, "no regular file" unless @file.stat.file?
      rescue StandardError
        @file&.close
        raise
      end

      # Lines of about CHUNK_BYTES, each with its newline; empty at the end.
      def lines
        lines = []
        bytes = 0
        while bytes < CHUNK_BYTES && (line = @file.gets("\n"))
          line.force_encoding(Encoding::UTF_8)
          next if line == "\n"

          lines << (line.end_with?("\n") ? line : "#{line}\n")
          bytes += line.bytesize
        end
        lines
      end

      # Everything in it is settled.
      def remove
        @file.close
        File.unlink(@path)
      rescue SystemCallError
        nil # another client was first
      end

      def close
        @file.close
      end
    end

    def initialize(socket_path)
      path = Text.path(socket_path)
      path = File.join(Dir.pwd.b, path) unless path.start_with?("/")
      @name = name(path)
    rescue SystemCallError # the current folder is gone
      @name = name(path)
    end

    # [[line, lifecycle]] in order → Kept: what does not fit is left out, oldest details first, then the oldest lifecycle
    # events.
    def keep(lines)
      folder = usable_folder
      chosen = fitting(lines, MAX_BYTES - used(folder))
      path = write(folder, chosen) unless chosen.empty?
      Kept.new(chosen.size, path && Text.clean(path), "#{Text.clean(folder)} has no room")
    rescue *TROUBLE => e
      Kept.new(0, nil, Text.reason(e))
    end

    # Files of earlier clients for this socket, oldest first.
    def files
      folder = usable_folder(make: false)
      paths = children(folder).grep(/\A#{Regexp.escape(@name)}@[0-9a-z-]+\.ndjson\z/n).map { |name| File.join(folder, name) }
      paths.map { |path| [path, stat(path)] }.select { |_, stat| stat && ours?(stat) }.sort_by { |_, stat| stat.mtime }.map(&:first)
    rescue Unusable, SystemCallError
      []
    end

    private

    def name(path)
      path.gsub(/[^A-Za-z0-9\-._~]/n) { |byte| byte == "/" ? "+" : format("%%%02X", byte.ord) }
    end

    def usable_folder(make: true)
      folder = folder_path
      FileUtils.mkdir_p(folder, mode: 0o700) if make && !File.directory?(folder)
      stat = File.lstat(folder)
      raise Unusable, "#{Text.clean(folder)} is no folder of this user's alone" unless stat.directory? && stat.owned? && (stat.mode & 0o022).zero?

      folder
    end

    def folder_path
      state = Text.environment("XDG_STATE_HOME")
      state = File.join(home, ".local", "state") unless state.start_with?("/")
      File.join(state, "run-recorder", "unsent")
    end

    # Services and cron may leave HOME out; then what the system knows of the user.
    def home
      home = Text.environment("HOME")
      home = Etc.getpwuid(Process.euid)&.dir.to_s unless home.start_with?("/")
      raise Unusable, "neither XDG_STATE_HOME nor HOME names a folder" unless home.start_with?("/")

      home
    rescue ArgumentError
      raise Unusable, "neither XDG_STATE_HOME nor HOME names a folder, and the system does not know this user"
    end

    # As bytes.
    def children(folder)
      Dir.children(folder, encoding: Encoding::BINARY)
    end

    # nil where another client removed it meanwhile.
    def stat(path)
      File.lstat(path)
    rescue SystemCallError
      nil
    end

    def used(folder)
      children(folder).sum { |name| stat(File.join(folder, name))&.size || 0 }
    end

    def ours?(stat)
      stat.file? && stat.owned? && stat.size <= MAX_BYTES
    end

    def fitting(lines, room)
      total = lines.sum { |line, _| line.bytesize }
      left_out = {}.compare_by_identity
      [false, true].each do |rank|
        lines.each do |entry|
          break if total <= room

          line, lifecycle = entry
          total -= line.bytesize if lifecycle == rank && (left_out[entry] = true)
        end
      end
      lines.reject { |entry| left_out.key?(entry) }.map(&:first)
    end

    def write(folder, lines)
      path = File.join(folder, "#{@name}@#{SecureRandom.hex(8)}")
      File.open("#{path}.new", File::WRONLY | File::CREAT | File::EXCL, 0o600, binmode: true) do |file|
        lines.each { |line| file.write(line) }
        file.fsync
      end
      File.rename("#{path}.new", "#{path}.ndjson")
      sync(folder)
      "#{path}.ndjson"
    rescue SystemCallError, IOError
      remove("#{path}.new")
      raise
    end

    # The name of the file; the file itself is there, whether this can be done or not.
    def sync(folder)
      File.open(folder, File::RDONLY, binmode: true, &:fsync)
    rescue SystemCallError
      nil
    end

    def remove(path)
      File.unlink(path)
    rescue SystemCallError
      nil
    end
  end
end
