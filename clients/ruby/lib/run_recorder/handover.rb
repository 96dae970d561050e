# frozen_string_literal: true

module RunRecorder
  # What Ruby runs no hooks for: Process.daemon, after which the work goes on in a child while the parent ends at once, and exec.
  # Any thread.
  module Handover
    @successors = {}

    class << self
      # The process in which the work of process `pid` goes on: mostly that one.
      def successor(pid)
        pid = @successors[pid] while @successors.key?(pid)
        pid
      end

      # Around Process.daemon. No other thread is within a buffer meanwhile, as none of them goes on in the child.
      def daemon
        return yield if RunRecorder.inside_ractor?

        Thread.handle_interrupt(Recorder::LATER) do
          before, pipelines = Process.pid, Pipeline.living
          locked = pipelines.map(&:buffer).select(&:lock)
          begin
            yield
          ensure
            locked.each(&:unlock)
            go_on(before, pipelines) unless Process.pid == before
          end
        end
      end

      # Before exec. In a signal handler no lock can be taken, but another thread may.
      def exec
        return if RunRecorder.inside_ractor?

        Pipeline.living.each do |pipeline|
          begin
            pipeline.leave
          rescue ThreadError
            Thread.new { pipeline.leave }.join
          end
        end
      rescue *TROUBLE
        nil
      end

      private

      def go_on(before, pipelines)
        @successors[before] = Process.pid
        pipelines.each(&:go_on)
        Run.current_ones.select(&:of_this_process?).each(&:moved)
      rescue *TROUBLE
        nil
      end
    end

    # In front of Process.daemon.
    module Daemon
      def daemon(*)
        Handover.daemon { super }
      end
    end

    # In front of Process.exec and Kernel.exec.
    module Exec
      def exec(*)
        Handover.exec
        super
      end
    end

    # In front of every object's own.
    module PrivateExec
      private

      def exec(*)
        Handover.exec
        super
      end
    end

    ::Process.singleton_class.prepend(Daemon, Exec)
    ::Kernel.singleton_class.prepend(Exec)
    ::Object.include(PrivateExec)
  end
end
