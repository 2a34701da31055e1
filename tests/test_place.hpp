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
struct TestPlace : Workplace {
  TestPlace() : Workplace(NewTestDevice(), NewSelfCommunicator()) {}
  explicit TestPlace(Communicator& host) : Workplace(NewTestDevice(host.rank()), host) {}
};

}  // namespace crema
