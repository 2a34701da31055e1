// Floor 1, inside src/cuda. Locked memory of the host, which copies of streams need. Used by the device's
// copies and uploads, who wait for their streams before it goes.
#pragma once

#include "cuda/check.hpp"

namespace crema {

class Pinned {
 public:
  explicit Pinned(size_t bytes) : bytes_(bytes) {
    CheckCuda(cudaMallocHost(&memory_, bytes), "cudaMallocHost");
  }
  ~Pinned() { cudaFreeHost(memory_); }
  Pinned(const Pinned&) = delete;
  void* memory() const { return memory_; }
  size_t bytes() const { return bytes_; }

 private:
  void* memory_ = nullptr;
  size_t bytes_;
};

}  // namespace crema
