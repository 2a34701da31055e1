// Floor 6. The files of a folder of class centres (docs/formats.md), whoever writes or reads them: the
// snapshot and the tool `centers`.
#pragma once

#include <exception>
#include <mutex>
#include <string>
#include <vector>

#include "crema.pb.h"
#include "crema/parallel.hpp"

namespace crema {

constexpr int64_t kCentersBlockRows = 1 << 16;  // rows of a checksum
constexpr int64_t kCentersPieceRows = 1 << 12;  // rows that are read or written at a time

// A file that is closed again; failures are Errors that name it.
class DataFile {
 public:
  DataFile(std::string path, int flags);  // those of open(2)
  ~DataFile();
  DataFile(const DataFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const;
  void Resize(int64_t bytes);
  void WriteAt(int64_t offset, const char* bytes, int64_t size);
  void ReadAt(int64_t offset, char* bytes, int64_t size) const;
  void Sync();

 private:
  std::string path_;
  int fd_;
};

std::string CentersHeaderPath(const std::string& folder, const std::string& stem);
std::string CentersDataPath(const std::string& folder, const std::string& stem, const std::string& quantity,
                            const std::string& dtype);
std::string LastDrawnPath(const std::string& folder, const std::string& stem);
// Row of a class.
int64_t RowOfClass(const CentersHeader& header, int64_t c);
// The weights that a folder has, sorted. Throws Error where it cannot be read.
std::vector<std::string> CentersStems(const std::string& folder);
// Throws Error, naming the file, for a header that does not say what it should.
CentersHeader ReadCentersHeader(const std::string& path);
DType StoredType(const CentersHeader& header, const std::string& path);
bool HasQuantity(const CentersHeader& header, const std::string& quantity);
// Throws Error unless a quantity's file is as long as the header says.
void CheckLength(const DataFile& file, const CentersHeader& header, int64_t number_bytes);
// Of each row, the iteration that drew it last, from 1; 0: none. Throws Error for a file of another length.
std::vector<int32_t> LastDrawnOf(const std::string& folder, const std::string& stem, int64_t rows);
// CRC-32 as in zlib, gzip and PNG, going on from the checksum of the bytes before; 0 at the start.
uint32_t Checksum(const char* bytes, int64_t size, uint32_t before = 0);
// Of bytes with the checksum `first` and so many others with the checksum `second` behind them.
uint32_t JoinChecksums(uint32_t first, uint32_t second, int64_t second_size);
// Numbers of one type as another.
void Convert(DType from, const char* in, DType to, int64_t count, std::vector<char>* out);

// f(i) for i in [0, count) on all threads; rethrows what the first of them threw.
template <class F>
void ForEachAtOnce(const Context& ctx, int64_t count, const F& f) {
  std::mutex mutex;
  std::exception_ptr failure;
  ForEachTask(ctx, count, [&](int64_t i, int) {
    try {
      f(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
    }
  });
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace crema
