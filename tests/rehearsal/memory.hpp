// A test tool. The memory of one imaginary GPU; see machine.hpp. Its calls come under the machine's lock.
#pragma once

#include <cstdint>
#include <map>

namespace rehearsal {

class Memory {
 public:
  Memory();

  // An address for so many bytes, a multiple of 256; not yet open.
  void* Reserve(int64_t bytes);
  // Opens it to the streams' threads, filled with 0xFF.
  void Open(void* memory);
  // Closes all that is open, or opens it again, to all threads.
  void SetAccess(bool open);
  // By the calls so far it is freed. A Fault where it is not the start of a piece, or freed already.
  void MarkFreed(void* memory);
  // Gives its pages back. A Fault where something was written just before or behind it.
  void Close(void* memory);

  struct Piece {
    int64_t bytes = 0;
    bool freed = false, open = false;
  };
  // The piece that an address lies in or just behind; null where there is none. `start` is set to its
  // address.
  const Piece* Find(const void* address, const char** start) const;
  bool Holds(const void* address) const;  // whether it is in the GPU's range of addresses
  int64_t used() const { return used_; }
  int64_t most_used() const { return most_used_; }

 private:
  struct Pages {
    char* first;
    int64_t bytes;
  };
  static Pages PagesOf(char* memory, int64_t bytes);

  char* base_;
  char* next_;  // page-aligned
  int64_t used_ = 0, most_used_ = 0;
  std::map<const char*, Piece> pieces_;  // by address; goes when it is closed
};

// Lets the calling thread at the memory of all GPUs. Without it, touching that memory is a crash.
void OpenForThisThread();
// Whether that is beyond this processor, which opens it to all threads or none.
bool OpensForAllThreads();

}  // namespace rehearsal
