#include "base/transfer.hpp"

#include <unistd.h>

#include <cerrno>

namespace crema {
namespace {

// `transfer`: pread or pwrite.
template <class Transfer, class Byte>
int64_t TransferAll(const Transfer& transfer, int file, Byte* memory, int64_t bytes, int64_t at) {
  int64_t gone = 0;
  while (gone < bytes) {
    const ssize_t done = transfer(file, memory + gone, static_cast<size_t>(bytes - gone), at + gone);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return gone;
    if (done == 0) break;
    gone += done;
  }
  errno = 0;
  return gone;
}

}  // namespace

int64_t ReadAllAt(int file, void* to, int64_t bytes, int64_t at) {
  return TransferAll(pread, file, static_cast<char*>(to), bytes, at);
}

int64_t WriteAllAt(int file, const void* from, int64_t bytes, int64_t at) {
  return TransferAll(pwrite, file, static_cast<const char*>(from), bytes, at);
}

}  // namespace crema
