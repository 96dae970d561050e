#include "server/shares.h"

#include <fmt/format.h>

#include <algorithm>

namespace run_recorder {
namespace {

// Users that cannot be told count as one.
uid_t user_of(const Peer& peer) {
  return peer.uid.value_or(static_cast<uid_t>(-1));
}

std::string name_of(uid_t user) {
  return user == static_cast<uid_t>(-1) ? "unknown" : std::to_string(user);
}

}  // namespace

bool ConnectionShares::has_room_for(const Peer& peer) const {
  const auto leaves_some = [this](std::size_t end, std::size_t of_one) {
    return held_ < end && 2 * of_one < end - held_;
  };
  const std::size_t end_of_processes = limit_ + reserve_of_each(limit_);
  const auto of_process = held_by_process(peer);
  return held_ < limit_ || (of_process && leaves_some(end_of_processes, *of_process)) ||
         leaves_some(limit_ + reserve_of(limit_), held_by_user(peer));
}

void ConnectionShares::add(const Peer& peer) {
  ++held_;
  User& user = users_[user_of(peer)];
  ++user.held;
  if (peer.pid) {
    ++user.processes[*peer.pid];
  }
}

void ConnectionShares::remove(const Peer& peer) {
  --held_;
  const auto user = users_.find(user_of(peer));
  if (--user->second.held == 0) {
    users_.erase(user);
    return;
  }
  if (!peer.pid) {
    return;
  }
  const auto process = user->second.processes.find(*peer.pid);
  if (--process->second == 0) {
    user->second.processes.erase(process);
  }
}

std::string ConnectionShares::refusal(const Peer& peer) const {
  return fmt::format(
      "{} connections are open, {} of them of user {} and {} of this process; what is left beyond the {} "
      "of [limits] connections is for users and processes that have few; try again later",
      held_, held_by_user(peer), name_of(user_of(peer)), held_by_process(peer).value_or(0), limit_);
}

std::string ConnectionShares::largest_holders() const {
  const auto user = std::max_element(users_.begin(), users_.end(), [](const auto& one, const auto& other) {
    return one.second.held < other.second.held;
  });
  if (user == users_.end()) {
    return fmt::format("{} are open", held_);
  }
  std::string text =
      fmt::format("{} are open, {} of them of user {}", held_, user->second.held, name_of(user->first));
  const auto& processes = user->second.processes;
  const auto process = std::max_element(processes.begin(), processes.end(),
                                        [](const auto& one, const auto& other) { return one.second < other.second; });
  if (process != processes.end()) {
    text += fmt::format(", {} of its process {}", process->second, process->first);
  }
  return text;
}

std::size_t ConnectionShares::held_by_user(const Peer& peer) const {
  const auto user = users_.find(user_of(peer));
  return user == users_.end() ? 0 : user->second.held;
}

// Empty: it cannot be told from others (another PID namespace); only its user counts.
std::optional<std::size_t> ConnectionShares::held_by_process(const Peer& peer) const {
  if (!peer.pid) {
    return std::nullopt;
  }
  const auto user = users_.find(user_of(peer));
  if (user == users_.end()) {
    return 0;
  }
  const auto process = user->second.processes.find(*peer.pid);
  return process == user->second.processes.end() ? 0 : process->second;
}

}  // namespace run_recorder
