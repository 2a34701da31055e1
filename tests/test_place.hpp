// Where tests run: on the CPU or, where the environment says CREMA_TEST_GPU=1, on a GPU for each rank (a real
// one, or an imaginary one of the rehearsal).
#pragma once

#include <cstdlib>

#include "crema/context.hpp"

namespace crema {

inline bool TestsRunOnGpu() {
  return std::getenv("CREMA_TEST_GPU") != nullptr;
}

// Rank by rank another GPU, as far as there are some.
inline std::unique_ptr<Device> NewTestDevice(int rank = 0) {
  return TestsRunOnGpu() ? NewCudaDevice(rank % CudaDeviceCount()) : NewCpuDevice();
}

// A Workplace on such a device, of one rank or with the host's side of a communicator that outlives it.
class TestPlace {
 public:
  TestPlace() : place_(std::make_unique<Workplace>(NewTestDevice(), NewSelfCommunicator())) {}
  explicit TestPlace(Communicator& host) {
    if (!TestsRunOnGpu()) {
      place_ = std::make_unique<Workplace>(host);
      return;
    }
    std::unique_ptr<Device> device = NewTestDevice(host.rank());
    std::unique_ptr<Communicator> comm = NewGpuCommunicator(host, *device);
    place_ = std::make_unique<Workplace>(std::move(device), std::move(comm));
  }
  Context& context() { return *place_; }
  operator Context&() { return *place_; }

 private:
  std::unique_ptr<Workplace> place_;
};

}  // namespace crema
