// Floor 1. Memory that lies in a file: disk bounds its size, and only what is in use is resident. Called by
// whoever holds large weights: class centres and their optimiser state.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace crema {

class FileMemory {
 public:
  // Files go to `folder` and have no name: nothing remains of them when the process ends, however it ends.
  // About `resident_bytes` of them are kept resident. `scattered`: rows are worked on here and there, not all
  // in order; the system then neither reads ahead by itself nor writes more than the pages that changed.
  FileMemory(std::string folder, int64_t resident_bytes, bool scattered);

  int64_t resident_bytes() const { return resident_bytes_; }

  // So many bytes of zeros, aligned to a page; the disk space is reserved. Throws Error where there is none.
  std::shared_ptr<void> Map(int64_t bytes);

  // Starts to read rows, as those of ReadRows, from disk.
  void WillNeedRows(const void* from, const int64_t* rows, int64_t first, int64_t count,
                    int64_t row_bytes) const;
  // Rows of `row_bytes` of the mapping that begins at `from`, copied to or from others that lie one after the
  // other. By calls to the system: none of the mapping becomes resident, and there is no fault for each page.
  // `rows`: as those of Used. Throws Error where the disk fails.
  void ReadRows(const void* from, const int64_t* rows, int64_t first, int64_t count, int64_t row_bytes,
                void* to) const;
  void WriteRows(void* to, const int64_t* rows, int64_t first, int64_t count, int64_t row_bytes,
                 const void* from) const;
  // To be called after work on rows of `row_bytes` in one mapping: lets go of all resident pages, which stay
  // in the system's cache while it has room, once the limit is reached. `rows` are sorted numbers; null
  // stands for [first, first + count).
  void Used(const int64_t* rows, int64_t first, int64_t count, int64_t row_bytes);

 private:
  struct Mapping {
    void* memory;
    int64_t bytes;
    int file;
  };
  void LetGo();
  int FileOf(const void* mapping) const;

  std::string folder_;
  int64_t resident_bytes_;
  bool scattered_;
  std::atomic<int64_t> used_{0};
  // Shared with the mappings, which may outlive this.
  struct Mappings {
    std::mutex mutex;
    std::vector<Mapping> all;
  };
  std::shared_ptr<Mappings> mappings_ = std::make_shared<Mappings>();
};

}  // namespace crema
