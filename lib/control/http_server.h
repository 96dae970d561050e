// Carries the API over HTTP/1.1: on the control socket, and, where configured, the metrics alone on a TCP address.
// Each of the two has a limit of connections of its own; one too many gets a 503 and is closed. One I/O thread and a
// few that wait for the database. start() and stop() belong to one thread; the rest is safe from any.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "control/answer.h"
#include "control/request.h"

namespace run_recorder {

struct HttpOptions {
  std::filesystem::path path;
  mode_t mode = 0600;
  std::string group;                     // name or number; empty: the process's own
  std::string metrics_listen;            // see base/host_port.h; empty: none
  std::uint64_t import_bytes = 8 << 20;  // of the body of an import: a row of three texts, and a part of its history
};

// What became of one listening socket's connections; a snapshot.
struct ListenerCounters {
  std::size_t open = 0;
  std::size_t limit = 0;  // 0: there is no such listener
  std::uint64_t refused = 0;
};
struct MetricsListening {
  std::string listen;  // as configured; empty: nowhere
  std::string error;   // why nothing listens there; tried again until it does
};
struct HttpCounters {
  ListenerCounters control;
  ListenerCounters metrics;
  MetricsListening metrics_listening;
};

class HttpServer {
 public:
  // answer is called from several threads, for what comes from memory on the I/O thread, where traits always is.
  using Answer = std::function<ApiAnswer(const ApiRequest&)>;
  using Traits = std::function<TargetTraits(std::string_view target)>;
  HttpServer(HttpOptions options, Answer answer, Traits traits);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // StartError as net/listener.h says; 78 where the TCP address is none. One that is taken, or that this host does
  // not have, is tried again every few seconds.
  void start();
  // Closes all connections, those that wait for an answer too.
  void stop();

  HttpCounters counters() const;

  // For the watchdog: the I/O thread answers within that time, and no read has been under way for minutes.
  bool responds(std::chrono::milliseconds within) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace run_recorder
