#include "memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "machine.hpp"

namespace rehearsal {
namespace {

constexpr int64_t kAddresses = int64_t{1} << 40;  // of a GPU; none is used twice
constexpr int64_t kPage = 4096, kAlignment = 256;

// The processor's key of all GPUs' memory; negative where it has no keys.
int Key() {
  static const int key = [] {
    const int found = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (found < 0)
      std::fprintf(
          stderr,
          "rehearsal: this processor has no protection keys; the host's use of a GPU's memory is noticed "
          "only while all GPUs rest\n");
    return found;
  }();
  return key;
}

void* Map(void* at, int64_t bytes, int more) {
  void* memory = mmap(at, static_cast<size_t>(bytes), PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | more, -1, 0);
  if (memory == MAP_FAILED) Fault("the machine has no addresses left");
  return memory;
}

}  // namespace

void OpenForThisThread() {
  if (Key() >= 0) pkey_set(Key(), 0);
}
bool OpensForAllThreads() {
  return Key() < 0;
}

Memory::Memory() : base_(static_cast<char*>(Map(nullptr, kAddresses, 0))), next_(base_) {
  Key();
}

// A piece ends, but for the rest of 256 bytes, where its pages end; the page behind them stays closed.
Memory::Pages Memory::PagesOf(char* memory, int64_t bytes) {
  char* end = memory + (bytes + kAlignment - 1) / kAlignment * kAlignment;
  char* first = memory - reinterpret_cast<uintptr_t>(memory) % kPage;
  return {first, end - first};
}

void* Memory::Reserve(int64_t bytes) {
  const int64_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const int64_t pages = (size + kPage - 1) / kPage * kPage;
  char* memory = next_ + pages - size;
  next_ += pages + kPage;
  if (next_ - base_ > kAddresses) Fault("a GPU's addresses are used up");
  pieces_[memory] = {bytes, false};
  used_ += bytes;
  most_used_ = std::max(most_used_, used_);
  return memory;
}

void Memory::Open(void* memory) {
  const Pages pages = PagesOf(static_cast<char*>(memory), pieces_.at(static_cast<char*>(memory)).bytes);
  const int rights = PROT_READ | PROT_WRITE;
  const int failed = Key() >= 0 ? pkey_mprotect(pages.first, static_cast<size_t>(pages.bytes), rights, Key())
                                : mprotect(pages.first, static_cast<size_t>(pages.bytes), rights);
  if (failed != 0) Fault("the machine could not open memory: " + std::string(std::strerror(errno)));
  pieces_.at(static_cast<char*>(memory)).open = true;
  std::memset(pages.first, 0xFF, static_cast<size_t>(pages.bytes));
}

void Memory::SetAccess(bool open) {
  for (const auto& [start, piece] : pieces_) {
    if (!piece.open) continue;
    const Pages pages = PagesOf(const_cast<char*>(start), piece.bytes);
    if (mprotect(pages.first, static_cast<size_t>(pages.bytes), open ? PROT_READ | PROT_WRITE : PROT_NONE) !=
        0)
      Fault("the machine could not change the access to memory: " + std::string(std::strerror(errno)));
  }
}

void Memory::MarkFreed(void* memory) {
  const auto found = pieces_.find(static_cast<char*>(memory));
  if (found == pieces_.end()) Fault("cudaFreeAsync: an address that is not the start of allocated memory");
  if (found->second.freed) Fault("cudaFreeAsync: memory that is freed already");
  found->second.freed = true;
  used_ -= found->second.bytes;
}

void Memory::Close(void* memory) {
  char* start = static_cast<char*>(memory);
  const int64_t bytes = pieces_.at(start).bytes;
  const Pages pages = PagesOf(start, bytes);
  const auto intact = [](const char* from, const char* to) {
    for (; from < to; ++from) {
      if (*from != '\xFF') return false;
    }
    return true;
  };
  if (!intact(pages.first, start)) Fault("something was written just before a piece of memory");
  if (!intact(start + bytes, pages.first + pages.bytes))
    Fault("something was written just behind a piece of memory of " + std::to_string(bytes) + " bytes");
  Map(pages.first, (pages.bytes + kPage - 1) / kPage * kPage, MAP_FIXED);
  pieces_.erase(start);
}

const Memory::Piece* Memory::Find(const void* address, const char** start) const {
  auto next = pieces_.upper_bound(static_cast<const char*>(address));
  if (next == pieces_.begin()) return nullptr;
  --next;
  *start = next->first;
  return &next->second;
}

bool Memory::Holds(const void* address) const {
  const char* at = static_cast<const char*>(address);
  return at >= base_ && at < base_ + kAddresses;
}

}  // namespace rehearsal
