// Floor 1. What a build without CUDA says when it is asked for a GPU.
#include "crema/device.hpp"

namespace crema {

std::string DescribeCpu();

std::unique_ptr<Device> NewCudaDevice(int index) {
  Fail("GPU ", index, " was asked for, but this build has no CUDA support; configure with the preset `cuda`");
}

int CudaDeviceCount() {
  Fail("GPUs were asked for, but this build has no CUDA support; configure with the preset `cuda`");
}

std::vector<std::string> DescribeDevices() {
  return {DescribeCpu()};
}

}  // namespace crema
