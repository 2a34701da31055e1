#include "crema/file_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <glog/logging.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/transfer.hpp"
#include "crema/error.hpp"

namespace crema {
namespace {

constexpr int64_t kPage = 4096;
// The kernel maps so much around a page that is read.
constexpr int64_t kWindow = 64 << 10;

// A file at an address that windows start at, so that a run of rows in one is not mapped as two.
void* MapAligned(int file, size_t bytes) {
  const size_t window = static_cast<size_t>(kWindow);
  void* room = mmap(nullptr, bytes + window, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return room;
  char* const begin = static_cast<char*>(room);
  char* const aligned = begin + (window - reinterpret_cast<uintptr_t>(room) % window) % window;
  void* memory = mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
  if (memory == MAP_FAILED) {
    const int failure = errno;
    munmap(room, bytes + window);
    errno = failure;
    return memory;
  }
  if (aligned != begin) munmap(begin, static_cast<size_t>(aligned - begin));
  munmap(aligned + bytes, window - static_cast<size_t>(aligned - begin));
  return memory;
}

// f(bytes from the beginning, bytes, of the rows so far) of every run of neighbours.
template <class F>
void ForRuns(const int64_t* rows, int64_t first, int64_t count, int64_t row_bytes, const F& f) {
  if (rows == nullptr) return f(first * row_bytes, count * row_bytes, int64_t{0});
  for (int64_t k = 0, next; k < count; k = next) {
    for (next = k + 1; next < count && rows[next] == rows[next - 1] + 1;) ++next;
    f(rows[k] * row_bytes, (next - k) * row_bytes, k * row_bytes);
  }
}

}  // namespace

FileMemory::FileMemory(std::string folder, int64_t resident_bytes, bool scattered)
    : folder_(std::move(folder)), resident_bytes_(resident_bytes), scattered_(scattered) {}

std::shared_ptr<void> FileMemory::Map(int64_t bytes) {
  bytes = std::max<int64_t>(1, (bytes + kPage - 1) / kPage) * kPage;
  std::string path = folder_ + "/crema_rows_XXXXXX";
  const int file = mkstemp(path.data());
  Require(file >= 0, "cannot make a file for class centres in the folder '", folder_, "': ", strerror(errno));
  unlink(path.c_str());
  const int reserved = posix_fallocate(file, 0, bytes);
  void* memory = MAP_FAILED;
  if (reserved == 0) memory = MapAligned(file, static_cast<size_t>(bytes));
  const int failure = reserved != 0 ? reserved : errno;
  if (memory == MAP_FAILED) close(file);
  Require(memory != MAP_FAILED, "cannot get ", bytes, " bytes for class centres in the folder '", folder_,
          "': ", strerror(failure));
  // Else the system's cache is made of large pieces, and a changed page has the whole of its piece written.
  if (scattered_) {
    madvise(memory, static_cast<size_t>(bytes), MADV_RANDOM);
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
  }
  const std::shared_ptr<Mappings> mappings = mappings_;
  {
    const std::lock_guard lock(mappings->mutex);
    mappings->all.push_back({memory, bytes, file});
  }
  return {memory, [mappings, bytes, file](void* mapped) {
            const std::lock_guard lock(mappings->mutex);
            std::erase_if(mappings->all, [&](const Mapping& m) { return m.memory == mapped; });
            munmap(mapped, static_cast<size_t>(bytes));
            close(file);
          }};
}

void FileMemory::WillNeedRows(const void* from, const int64_t* rows, int64_t first, int64_t count,
                              int64_t row_bytes) const {
  ForRuns(rows, first, count, row_bytes, [&](int64_t at, int64_t bytes, int64_t) {
    const uintptr_t run = reinterpret_cast<uintptr_t>(from) + static_cast<uintptr_t>(at);
    const uintptr_t begin = run / kPage * kPage, end = run + static_cast<uintptr_t>(bytes);
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);  // a hint; it may be declined
  });
}

int FileMemory::FileOf(const void* mapping) const {
  const std::lock_guard lock(mappings_->mutex);
  const auto found = std::find_if(mappings_->all.begin(), mappings_->all.end(),
                                  [&](const Mapping& m) { return m.memory == mapping; });
  CHECK(found != mappings_->all.end()) << "rows of a mapping of something else";
  return found->file;
}

void FileMemory::ReadRows(const void* from, const int64_t* rows, int64_t first, int64_t count,
                          int64_t row_bytes, void* to) const {
  const int file = FileOf(from);
  ForRuns(rows, first, count, row_bytes, [&](int64_t at, int64_t bytes, int64_t before) {
    const bool all = ReadAllAt(file, static_cast<char*>(to) + before, bytes, at) == bytes;
    Require(all, "cannot read class centres from their file: ",
            errno != 0 ? strerror(errno) : "it has become too short");
  });
}

void FileMemory::WriteRows(void* to, const int64_t* rows, int64_t first, int64_t count, int64_t row_bytes,
                           const void* from) const {
  const int file = FileOf(to);
  ForRuns(rows, first, count, row_bytes, [&](int64_t at, int64_t bytes, int64_t before) {
    const bool all = WriteAllAt(file, static_cast<const char*>(from) + before, bytes, at) == bytes;
    Require(all, "cannot write class centres to their file: ",
            errno != 0 ? strerror(errno) : "it has become too short");
  });
}

void FileMemory::Used(const int64_t* rows, int64_t first, int64_t count, int64_t row_bytes) {
  int64_t windows = 0, next = 0;  // the first window that is not counted yet
  for (int64_t k = 0; k < count; ++k) {
    const int64_t begin = (rows != nullptr ? rows[k] : first + k) * row_bytes;
    const int64_t end = (begin + row_bytes - 1) / kWindow + 1;
    windows += std::max<int64_t>(0, end - std::max(next, begin / kWindow));
    next = std::max(next, end);
  }
  if (used_.fetch_add(windows * kWindow) + windows * kWindow > resident_bytes_) LetGo();
}

void FileMemory::LetGo() {
  const std::lock_guard lock(mappings_->mutex);
  if (used_.load() <= resident_bytes_) return;  // another thread was first
  used_ = 0;
  for (const Mapping& mapping : mappings_->all)
    madvise(mapping.memory, static_cast<size_t>(mapping.bytes), MADV_DONTNEED);
}

}  // namespace crema
