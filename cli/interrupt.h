// The first ^C of something long that is worth what was found until then: it ends soon, says so, and then dies of the
// signal as usual. A second ^C ends it at once. One thread; one at a time.
#pragma once

namespace run_recorder {

class Interrupt {
 public:
  // Watches for SIGINT from now on, unless it is ignored, as by nohup.
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool came();
  // Ends the process by SIGINT where it came, so that a shell sees it; otherwise nothing.
  static void end_by_it();
};

}  // namespace run_recorder
