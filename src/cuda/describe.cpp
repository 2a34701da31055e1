// Which GPUs there are, and what they are.
#include "crema/device.hpp"
#include "cuda/check.hpp"

namespace crema {

namespace {

// 13020 is "13.2".
std::string CudaVersion(int version) {
  return Concat(version / 1000, ".", version % 1000 / 10);
}

std::string CudnnVersion() {
  int numbers[3] = {};
  const libraryPropertyType parts[3] = {MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL};
  for (int k = 0; k < 3; ++k) CheckCudnn(cudnnGetProperty(parts[k], &numbers[k]), "cudnnGetProperty");
  return Concat(numbers[0], ".", numbers[1], ".", numbers[2]);
}

std::string CublasVersion() {
  int numbers[3] = {};
  const libraryPropertyType parts[3] = {MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL};
  for (int k = 0; k < 3; ++k) CheckCublas(cublasGetProperty(parts[k], &numbers[k]), "cublasGetProperty");
  return Concat(numbers[0], ".", numbers[1], ".", numbers[2]);
}

std::string DescribeGpu(int index) {
  cudaDeviceProp properties{};
  CheckCuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  CheckCuda(cudaSetDevice(index), "cudaSetDevice");
  size_t free = 0, total = 0;
  CheckCuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return Concat("GPU ", index, ": ", properties.name, ", compute capability ", properties.major, ".",
                properties.minor, ", ", properties.multiProcessorCount, " multiprocessors, ", free >> 20,
                " of ", total >> 20, " MiB of memory free");
}

}  // namespace

int CudaDeviceCount() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  Require(status == cudaSuccess, "no CUDA device was found (", cudaGetErrorString(status), ")");
  Require(count > 0, "no CUDA device was found (CUDA shows none)");
  return count;
}

std::vector<std::string> DescribeDevices() {
  std::vector<std::string> lines;
  for (int index = 0, count = CudaDeviceCount(); index < count; ++index) lines.push_back(DescribeGpu(index));
  int driver = 0, runtime = 0;
  CheckCuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  CheckCuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  lines.push_back(Concat("CUDA driver ", CudaVersion(driver), ", runtime ", CudaVersion(runtime), ", cuBLAS ",
                         CublasVersion(), ", cuDNN ", CudnnVersion()));
  return lines;
}

}  // namespace crema
