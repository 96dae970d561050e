# frozen_string_literal: true

module RunRecorder
  VERSION = "0.2.0"
end
