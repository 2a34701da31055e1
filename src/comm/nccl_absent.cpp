// What a build without CUDA says when it is asked for collectives over GPUs.
#include "crema/comm.hpp"

namespace crema {

std::unique_ptr<Communicator> NewGpuCommunicator(Communicator&, Device&, double) {
  Fail(
      "collectives over GPUs were asked for, but this build has no CUDA support; configure with the preset "
      "`cuda`");
}

}  // namespace crema
