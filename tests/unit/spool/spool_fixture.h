// What the spool's tests share: a folder of their own, and short ways to append to a spool and to read all of it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "spool/spool.h"
#include "support/temp_folder.h"

namespace run_recorder {

// A folder in memory where there is such a thing: for tests that open hundreds of spools and need no disk for it.
class QuickFolder {
 public:
  QuickFolder() {
    std::string name = "/dev/shm/run-recorder-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) return;
    path_ = name;
  }
  ~QuickFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  QuickFolder(const QuickFolder&) = delete;
  QuickFolder& operator=(const QuickFolder&) = delete;
  const std::filesystem::path& path() const { return path_.empty() ? on_disk_.path() : path_; }

 private:
  TempFolder on_disk_;
  std::filesystem::path path_;
};

inline SpoolOptions options_for(const std::filesystem::path& path) {
  SpoolOptions options;
  options.path = path;
  options.min_free = 0;
  return options;
}

struct Opened {
  std::unique_ptr<Spool> spool;
  SpoolOpening opening;
};

inline Opened open_spool(const SpoolOptions& options) {
  Opened opened;
  Result<std::unique_ptr<Spool>> spool = Spool::open(options, opened.opening);
  EXPECT_TRUE(spool) << spool.error().message;
  if (spool) opened.spool = std::move(*spool);
  return opened;
}

// The body that belongs to a number: different in content and length for each.
inline std::string body_of(std::uint64_t seq) {
  return "event " + std::to_string(seq) + ":" + std::string(seq * 7 % 90, static_cast<char>('a' + seq % 26));
}

// Appends bodies for the next `count` numbers as one group; the first number.
inline std::uint64_t append_group(Spool& spool, std::uint64_t count, bool privileged = true) {
  const std::uint64_t first = spool.usage().last_seq + 1;
  std::vector<std::string> bodies;
  for (std::uint64_t i = 0; i < count; ++i) bodies.push_back(body_of(first + i));
  std::vector<Spool::Entry> entries;
  for (const std::string& body : bodies) entries.push_back({body, privileged});
  const Result<Spool::Appended> appended = spool.append(entries);
  EXPECT_TRUE(appended) << appended.error().message;
  if (!appended) return 0;
  for (const Spool::Admission admission : appended->admissions) EXPECT_EQ(admission, Spool::Admission::kAccepted);
  return appended->first_seq;
}

// Appends the body that belongs to the next number, whatever that is; the number.
inline std::uint64_t append_one(Spool& spool) {
  const std::uint64_t seq = spool.append({})->first_seq;
  const std::string body = body_of(seq);
  const Spool::Entry entry{body, true};
  const Result<Spool::Appended> appended = spool.append({&entry, 1});
  EXPECT_TRUE(appended && appended->first_seq == seq);
  return seq;
}

struct Reading {
  std::vector<std::uint64_t> seqs;
  std::vector<std::string> damage;
};

// All records from a number on, in small batches; each body must be the one that belongs to its number.
inline Reading read_from(Spool& spool, std::uint64_t seq, std::size_t max_records = 7) {
  Reading reading;
  while (true) {
    const Result<std::vector<SpoolRecord>> records = spool.read(seq, max_records, 1 << 20, reading.damage);
    EXPECT_TRUE(records) << records.error().message;
    if (!records || records->empty()) return reading;
    for (const SpoolRecord& record : *records) {
      EXPECT_GE(record.seq, seq);
      EXPECT_EQ(record.body, body_of(record.seq));
      reading.seqs.push_back(record.seq);
      seq = record.seq + 1;
    }
  }
}

inline std::vector<std::uint64_t> range(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t seq = first; seq <= last; ++seq) numbers.push_back(seq);
  return numbers;
}

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::vector<std::filesystem::path> segment_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".seg") found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// A copy of a spool's folder as it is now, as a loss of power or a backup would leave it.
inline void copy_folder(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

inline std::string joined(const std::vector<std::string>& sentences) {
  std::string all;
  for (const std::string& sentence : sentences) all += sentence + "\n";
  return all;
}

}  // namespace run_recorder
