#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <random>

#include "protocol/protocol.h"

namespace run_recorder {
namespace {

constexpr std::string_view kLine = R"({"type":"run_started","run_id":"r1","council":"demo","worker_pid":7})";

Envelope full_envelope(std::string_view line = kLine) {
  Envelope envelope;
  envelope.received_at = *parse_rfc3339("2026-01-02T03:04:05.678901Z");
  envelope.peer_uid = 4'294'967'295;
  envelope.peer_pid = std::numeric_limits<std::int32_t>::max();
  envelope.worker_process = "machine/boot/ns/7/123";
  envelope.sender_process = std::string(300, 's');
  envelope.connection = "3-17";
  envelope.line = line;
  return envelope;
}

// A copy whose end is the end of its memory, so that a sanitizer sees a read beyond it.
struct Exact {
  explicit Exact(std::string_view bytes) : size(bytes.size()), data(new char[bytes.size()]) {
    std::copy(bytes.begin(), bytes.end(), data.get());
  }
  std::string_view view() const { return {data.get(), size}; }
  std::size_t size;
  std::unique_ptr<char[]> data;
};

void expect_equal(const Envelope& a, const Envelope& b) {
  EXPECT_EQ(a.received_at, b.received_at);
  EXPECT_EQ(a.peer_uid, b.peer_uid);
  EXPECT_EQ(a.peer_pid, b.peer_pid);
  EXPECT_EQ(a.worker_process, b.worker_process);
  EXPECT_EQ(a.sender_process, b.sender_process);
  EXPECT_EQ(a.connection, b.connection);
  EXPECT_EQ(a.line, b.line);
}

TEST(Envelope, ComesBackAsItWas) {
  const std::string long_line(200'000, 'x');
  Envelope negative = full_envelope();
  negative.received_at = *parse_rfc3339("0001-01-01T00:00:00Z");
  negative.peer_pid = -1;
  for (const Envelope& envelope : {Envelope{}, full_envelope(), full_envelope(long_line), negative}) {
    const std::string body = encode_envelope(envelope);
    const auto decoded = decode_envelope(body);
    ASSERT_TRUE(decoded.has_value());
    expect_equal(*decoded, envelope);
    EXPECT_GE(decoded->line.data(), body.data());
    EXPECT_LE(decoded->line.data() + decoded->line.size(), body.data() + body.size());
  }
}

TEST(Envelope, BytesOfVersionOneStayReadable) {
  using namespace std::string_literals;
  const std::string body =
      "\x01\x03\x40\x42\x0F\x00\x00\x00\x00\x00\xE8\x03\x00\x00\x07\x00\x00\x00\x01w\x00\x03"s + "1-2" + "\x02{}";
  const auto decoded = decode_envelope(body);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->received_at.time_since_epoch().count(), 1'000'000);
  EXPECT_EQ(decoded->peer_uid, 1000u);
  EXPECT_EQ(decoded->peer_pid, 7);
  EXPECT_EQ(decoded->worker_process, "w");
  EXPECT_EQ(decoded->sender_process, "");
  EXPECT_EQ(decoded->connection, "1-2");
  EXPECT_EQ(decoded->line, "{}");
  EXPECT_EQ(encode_envelope(*decoded), body);
}

TEST(Envelope, AbsentFieldsCostAtMost16Bytes) {
  Envelope envelope;
  envelope.line = kLine;
  EXPECT_LE(encode_envelope(envelope).size(), kLine.size() + 16);
}

TEST(Envelope, EveryTruncationIsCorrupt) {
  const std::string body = encode_envelope(full_envelope());
  for (std::size_t size = 0; size < body.size(); ++size) {
    const Exact truncated(std::string_view(body).substr(0, size));
    const auto decoded = decode_envelope(truncated.view());
    ASSERT_FALSE(decoded.has_value()) << size;
    EXPECT_EQ(decoded.error().kind, ErrorKind::kCorrupt);
    EXPECT_FALSE(decode_record(truncated.view()).has_value());
  }
}

TEST(Envelope, NewerVersionsUnknownFlagsAndTrailingBytesAreCorrupt) {
  const std::string body = encode_envelope(full_envelope());
  std::string newer = body, flags = body, time = body;
  newer[0] = 2;
  flags[1] = 7;
  time[9] = 0x7F;
  for (const std::string& bytes : {newer, flags, time, body + "x"}) {
    const auto decoded = decode_envelope(bytes);
    ASSERT_FALSE(decoded.has_value());
    EXPECT_EQ(decoded.error().kind, ErrorKind::kCorrupt);
  }
  EXPECT_NE(decode_envelope(newer).error().message.find("version 2"), std::string::npos);
}

TEST(Envelope, LengthsBeyondTheBytesAreCorrupt) {
  const std::string head = encode_envelope(Envelope{}).substr(0, 10);
  for (const std::string& length :
       {std::string("\xFF\xFF\xFF\xFF\x0F"), std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"),
        std::string("\x80\x80\x80\x80\x80\x80"),
        std::string("\x05"
                    "ab")}) {
    const Exact bytes(head + length);
    EXPECT_FALSE(decode_envelope(bytes.view()).has_value());
  }
}

TEST(Envelope, RandomBytesNeverReadOutOfBounds) {
  std::mt19937 random(5);
  const std::string body = encode_envelope(full_envelope());
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = body;
    for (int edits = 0; edits < 4; ++edits)
      bytes[random() % (edits == 0 ? 64 : bytes.size())] = static_cast<char>(random());
    bytes.resize(random() % (bytes.size() + 1));
    const Exact exact(bytes);
    const auto decoded = decode_envelope(exact.view());
    if (decoded.has_value()) {
      EXPECT_EQ(decode_envelope(encode_envelope(*decoded))->line, decoded->line);
    }
    (void)decode_record(exact.view());
  }
}

TEST(DecodeRecord, GivesTheEventWithWhatTheDaemonKnew) {
  const auto event = decode_record(encode_envelope(full_envelope()));
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->type, "run_started");
  EXPECT_EQ(event->run_id, "r1");
  EXPECT_EQ(event->council, "demo");
  EXPECT_EQ(event->worker_pid, 7);
  EXPECT_EQ(event->received_at, full_envelope().received_at);
  EXPECT_EQ(event->peer_uid, full_envelope().peer_uid);
  EXPECT_EQ(event->peer_pid, full_envelope().peer_pid);
  EXPECT_EQ(event->worker_process, full_envelope().worker_process);
  EXPECT_EQ(event->sender_process, full_envelope().sender_process);
  EXPECT_EQ(event->connection, "3-17");
}

TEST(DecodeRecord, LinesAcceptedUnderADeeperLimitPass) {
  std::string line = R"({"type":"run_started","run_id":"r1","input":)";
  line += std::string(kDeepestLine - 1, '[') + std::string(kDeepestLine - 1, ']') + "}";
  const auto event = decode_record(encode_envelope(full_envelope(line)));
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->input->size(), 2 * (kDeepestLine - 1));
}

TEST(DecodeRecord, LinesThatAnEarlierVersionAcceptedPassWithoutWhatIsNotAllowedNow) {
  Envelope envelope = full_envelope(
      R"({"type":"run_completed","run_id":"r1","usage":"much","job_state":7,"progress":null,"result":1})");
  const auto event = decode_record(encode_envelope(envelope));
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->result, "1");
  EXPECT_FALSE(event->usage || event->job_state || event->progress);
  EXPECT_EQ(event->payload, R"({"usage":"much","job_state":7,"progress":null,"result":1})");
}

TEST(DecodeRecord, LinesThatAreNoEventsAreInvalidWithTheReason) {
  for (const std::string_view line : {"", "{}", "x", R"({"type":"run_stuck","run_id":"r1"})"}) {
    const auto event = decode_record(encode_envelope(full_envelope(line)));
    ASSERT_FALSE(event.has_value());
    EXPECT_EQ(event.error().kind, ErrorKind::kInvalid);
    EXPECT_FALSE(event.error().message.empty());
  }
}

}  // namespace
}  // namespace run_recorder
