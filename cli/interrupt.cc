#include "cli/interrupt.h"

#include <signal.h>

#include <csignal>

namespace run_recorder {
namespace {

volatile std::sig_atomic_t interrupt_came = 0;

void note_interrupt(int) {
  interrupt_came = 1;
}

}  // namespace

Interrupt::Interrupt() {
  struct sigaction before {};
  if (::sigaction(SIGINT, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = note_interrupt;
  action.sa_flags = SA_RESETHAND;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
}

Interrupt::~Interrupt() {
  struct sigaction now {};
  if (::sigaction(SIGINT, nullptr, &now) == 0 && now.sa_handler == note_interrupt) ::signal(SIGINT, SIG_DFL);
}

bool Interrupt::came() {
  return interrupt_came != 0;
}

void Interrupt::end_by_it() {
  if (!came()) return;
  ::signal(SIGINT, SIG_DFL);
  ::raise(SIGINT);
}

}  // namespace run_recorder
