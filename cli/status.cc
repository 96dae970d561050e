#include "cli/status.h"

#include <fmt/format.h>

#include "cli/command.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

std::string count(const JsonObject& object, std::string_view key) {
  return with_separators(object.count(key));
}

std::string ledger_in_words(const JsonObject& status) {
  return fmt::format("{} accepted = {} applied + {} duplicate + {} waiting + {} dead + {} removed",
                     count(status, "accepted"), count(status, "applied"), count(status, "duplicate"),
                     count(status, "waiting"), count(status, "dead_letters"), count(status, "dead_letters_removed"));
}

// "3 invalid_json, 1 too_large"; empty where all are zero.
std::string nonzero_in_words(const JsonObject& counts) {
  std::string words;
  for (const JsonMember& member : counts.members()) {
    if (member.value == "0") continue;
    words += fmt::format("{}{} {}", words.empty() ? "" : ", ", member.value, member.key);
  }
  return words;
}

std::string connections_in_words(const JsonObject& connections) {
  std::string words = fmt::format("{} of {} open, {} in all", count(connections, "open"), count(connections, "limit"),
                                  count(connections, "total"));
  for (const std::string_view key : {"forbidden", "over_limit", "closed_unread"}) {
    if (connections.count(key) > 0) words += fmt::format(", {} {}", count(connections, key), key);
  }
  return words;
}

std::string spool_in_words(const JsonObject& spool, Timestamp now) {
  const auto oldest = spool.time("oldest_at");
  return fmt::format("{} waiting of {}{}, {} kept, {}", size_in_words(spool.count("pending_bytes")),
                     size_in_words(spool.count("max_bytes")),
                     oldest ? ", the oldest from " + age_in_words(*oldest, now) : "",
                     size_in_words(spool.count("kept_bytes")), count_of(spool.count("segments"), "segment"));
}

// The daemon's own words; empty from one that does not say yet.
void add_accepting(Facts& facts, const JsonObject& accepting) {
  const std::string state = accepting.text("state");
  if (state.empty()) return;
  const std::string message = accepting.text("message");
  facts.add("accepting", message.empty() ? "all events" : message, message.empty() ? Colour::kGreen : Colour::kRed);
  if (accepting.is_true("disk_low")) {
    facts.add("disk",
              fmt::format("runs low: {} free under {}, [spool] min_free is {}",
                          size_in_words(accepting.count("free_bytes")), accepting.text("path"),
                          size_in_words(accepting.count("min_free"))),
              Colour::kYellow);
  }
}

void add_database(Facts& facts, const JsonObject& database, Timestamp now) {
  const std::string state = database.text("state");
  const auto since = database.time("since");
  facts.add("database", since ? fmt::format("{} since {}", state, time_and_age(since, now)) : state,
            state == "up" ? Colour::kGreen : Colour::kRed);
  facts.add("database url", database.text("url"));
  if (const std::string error = database.text("error"); !error.empty())
    facts.add("database error", error, Colour::kRed);
  const JsonObject wait = database.object("waiting_for");
  if (wait.members().empty()) return;
  facts.add("indexes missing",
            fmt::format("{} since {}", wait.text("indexes"), time_and_age(wait.time("since"), now)), Colour::kYellow);
  facts.add("event ids", wait.text("event_ids"), Colour::kYellow);
  if (const std::string holder = wait.text("held_up_by"); !holder.empty())
    facts.add("indexes wait for", holder, Colour::kYellow);
  if (const std::string why = wait.text("error"); !why.empty()) facts.add("indexes fail", why, Colour::kRed);
}

void add_reconciliation(Facts& facts, const JsonObject& reconciliation, Timestamp now) {
  std::string words = count(reconciliation, "passes") + " pass";
  if (reconciliation.count("passes") != 1) words += "es";
  facts.add("reconciliation", words);
  const JsonObject last = reconciliation.object("last");
  if (last.members().empty()) return;
  facts.add("last pass",
            fmt::format("{}, {}{}, {}", last.text("pass_id"), last.text("trigger"),
                        last.is_true("dry_run") ? " (dry run)" : "", time_and_age(last.time("finished_at"), now)));
  facts.add("it found",
            fmt::format("{} examined: {} alive, {} stuck, {} unknown; {} marked", count(last, "examined"),
                        count(last, "alive"), count(last, "stuck"), count(last, "unknown"), count(last, "marked")));
  if (const std::string reasons = nonzero_in_words(last.object("reasons")); !reasons.empty()) {
    facts.add("its reasons", reasons);
  }
}

std::string status_for_people(const JsonObject& status, const Terminal& terminal) {
  const Timestamp now = now_utc();
  Facts facts(terminal);
  const auto add_unless_zero = [&](const char* name, const char* key, Colour colour) {
    if (status.count(key) > 0) facts.add(name, count(status, key), colour);
  };
  facts.add("status", status.text("status"), Colour::kBold);
  facts.add("daemon", fmt::format("{}, pid {} on {}, since {}", status.text("version"), status.text("pid"),
                                  status.text("host"), time_and_age(status.time("started_at"), now)));
  facts.add("recorder", status.text("recorder"));
  add_accepting(facts, status.object("accepting"));
  facts.add("events", ledger_in_words(status), status.count("dead_letters") > 0 ? Colour::kRed : Colour::kNone);
  add_unless_zero("conflicts", "conflicts", Colour::kYellow);
  add_unless_zero("excluded", "excluded", Colour::kNone);
  add_unless_zero("forgotten by the database", "forgotten", Colour::kRed);
  add_unless_zero("damaged in the spool", "damaged", Colour::kRed);
  if (const std::string refused = nonzero_in_words(status.object("refused")); !refused.empty()) {
    facts.add("refused", refused, Colour::kYellow);
  }
  facts.add("connections", connections_in_words(status.object("connections")));
  const JsonObject spool = status.object("spool");
  facts.add("spool", spool_in_words(spool, now));
  if (spool.is_true("failed")) facts.add("spool failure", spool.text("failure"), Colour::kRed);
  if (const std::string error = status.object("metrics").text("error"); !error.empty()) {
    facts.add("metrics", "not served: " + error, Colour::kRed);
  }
  if (const std::string why = status.text("reload_refused"); !why.empty()) {
    facts.add("reload refused", why, Colour::kRed);
  }
  add_database(facts, status.object("database"), now);
  add_reconciliation(facts, status.object("reconciliation"), now);
  return facts.render();
}

}  // namespace

int show_status(const Context& context) {
  const Result<ControlAnswer> answer = context.client.get("/v1/status");
  if (!answer) return fail(answer.error());
  const JsonObject status(answer->body);
  if (context.json) {
    print_json_lines({answer->body});
  } else {
    print(status_for_people(status, terminal_of(1)));
  }
  const std::string accepting = status.object("accepting").text("state");
  return accepting.empty() || accepting == "accepting" ? kExitDone : kExitOther;
}

std::string status_line(const JsonObject& status, const Terminal& terminal) {
  std::string line = printable(status.text("status")) + " · " + count(status, "accepted") + " accepted";
  for (const auto& [key, word] : {std::pair{"applied", "applied"},
                                  {"duplicate", "duplicate"},
                                  {"waiting", "waiting"},
                                  {"dead_letters", "dead"}}) {
    if (status.count(key) > 0) line += fmt::format(", {} {}", count(status, key), word);
  }
  return coloured(fit(line, terminal.columns), Colour::kBold, terminal);
}

namespace {

Handler declare_status(Flags) {
  return [](const Invocation& invocation) { return show_status(invocation.context()); };
}

}  // namespace

extern const Command kStatusCommand = {"status", "Show the daemon's state; exit 1 where it refuses events",
                                       declare_status};

}  // namespace run_recorder
