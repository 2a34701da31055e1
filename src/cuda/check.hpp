// Floor 1, inside src/cuda. What a status of NVIDIA's libraries says when it is no success.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "crema/error.hpp"

namespace crema {

template <class... Parts>
[[noreturn]] void FailOnGpu(const char* call, const Parts&... parts) {
  int gpu = -1;
  cudaGetDevice(&gpu);
  throw DeviceError(Concat(call, " failed on GPU ", gpu, ": ", parts...));
}

inline void CheckCuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the next launch is not to report it once more
  FailOnGpu(call, cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

inline void CheckCublas(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) FailOnGpu(call, cublasGetStatusString(status));
}

inline void CheckCudnn(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char detail[512] = {};
  cudnnGetLastErrorString(detail, sizeof(detail));
  FailOnGpu(call, cudnnGetErrorString(status), detail[0] != '\0' ? " - " : "", detail);
}

}  // namespace crema
