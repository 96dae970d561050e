// The memory that all unfinished long lines share. It only counts bytes; whoever holds a share owns the memory
// itself. Not synchronised: for the sessions' thread.
//
// The line that has held its share for longest may use all that is left; every other one must leave what that line
// still could need. So one line can always be finished, and lines that wait for each other cannot block for ever.
#pragma once

#include <cstddef>
#include <list>

namespace run_recorder {

class LinePool {
 public:
  class Share {
   public:
    explicit Share(LinePool& pool) : pool_(pool) {}
    ~Share() { release(); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    std::size_t bytes() const { return bytes_; }
    // How many bytes the share may grow by now.
    std::size_t room() const { return pool_.room_for(*this); }
    // To `bytes` in total; a line needs at most `limit`. Precondition: no more than room() are added.
    void grow(std::size_t bytes, std::size_t limit) { pool_.grow(*this, bytes, limit); }
    void release() { pool_.release(*this); }

   private:
    friend class LinePool;
    LinePool& pool_;
    std::size_t bytes_ = 0;
    std::size_t limit_ = 0;
    std::list<Share*>::iterator place_;
  };

  explicit LinePool(std::size_t bytes) : bytes_(bytes) {}
  LinePool(const LinePool&) = delete;
  LinePool& operator=(const LinePool&) = delete;

  std::size_t used() const { return used_; }
  std::size_t size() const { return bytes_; }
  // Shares that were given out keep their size.
  void resize(std::size_t bytes) { bytes_ = bytes; }
  // Goes up with every release: there may be room again.
  std::size_t releases() const { return releases_; }

 private:
  std::size_t room_for(const Share& share) const;
  void grow(Share& share, std::size_t bytes, std::size_t limit);
  void release(Share& share);

  std::size_t bytes_;
  std::size_t used_ = 0;
  std::size_t releases_ = 0;
  std::list<Share*> by_age_;  // those that hold something, oldest first
};

}  // namespace run_recorder
