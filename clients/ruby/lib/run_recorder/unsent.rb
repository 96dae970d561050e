# frozen_string_literal: true

require "fileutils"
require "securerandom"

module RunRecorder
  # The files in which events wait that a process could not send before it ended. The names and rights are a contract with
  # `run-recorder exec` and `emit`, and with the other clients of the same user. Any thread.
  class Unsent
    MAX_BYTES = 16 * 1024 * 1024

    # Reads a file piece by piece. Used by the sender's thread alone.
    class Reader
      CHUNK_BYTES = 1024 * 1024

      attr_reader :path

      def initialize(path)
        @path = path
        @file = File.open(path, File::RDONLY | File::NOFOLLOW, encoding: Encoding::UTF_8)
      end

      # Lines of about CHUNK_BYTES, each with its newline; empty at the end.
      def lines
        lines = []
        bytes = 0
        while bytes < CHUNK_BYTES && (line = @file.gets("\n"))
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
      path = socket_path.start_with?("/") ? socket_path : File.join(Dir.pwd, socket_path)
      @name = path.b.gsub(/[^A-Za-z0-9\-._~]/n) { |byte| byte == "/" ? "+" : format("%%%02X", byte.ord) }
    end

    # [[line, lifecycle]] in order → how many were kept: what does not fit is left out, oldest details first, then the
    # oldest lifecycle events.
    def keep(lines)
      folder = usable_folder or return 0
      chosen = fitting(lines, MAX_BYTES - used(folder))
      write(folder, chosen) unless chosen.empty?
      chosen.size
    rescue SystemCallError, IOError
      0
    end

    # Files of earlier clients for this socket, oldest first.
    def files
      folder = usable_folder(make: false) or return []
      Dir.children(folder).grep(/\A#{Regexp.escape(@name)}@[0-9a-z-]+\.ndjson\z/n).map { |name| File.join(folder, name) }
         .select { |path| ours?(File.lstat(path)) }.sort_by { |path| File.mtime(path) }
    rescue SystemCallError
      []
    end

    private

    def usable_folder(make: true)
      folder = folder_path or return
      FileUtils.mkdir_p(folder, mode: 0o700) if make && !File.directory?(folder)
      stat = File.lstat(folder)
      folder if stat.directory? && stat.owned? && (stat.mode & 0o022).zero?
    rescue SystemCallError
      nil
    end

    def folder_path
      state = ENV["XDG_STATE_HOME"].to_s
      home = ENV["HOME"].to_s
      state = home.empty? ? "" : File.join(home, ".local", "state") if state.empty?
      File.join(state, "run-recorder", "unsent") if state.start_with?("/")
    end

    def used(folder)
      Dir.children(folder).sum { |name| File.lstat(File.join(folder, name)).size }
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
      File.open("#{path}.new", File::WRONLY | File::CREAT | File::EXCL, 0o600) do |file|
        file.binmode
        lines.each { |line| file.write(line) }
        file.fsync
      end
      File.rename("#{path}.new", "#{path}.ndjson")
      File.open(folder, &:fsync)
    end
  end
end
