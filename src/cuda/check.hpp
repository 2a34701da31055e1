// Floor 1, inside src/cuda. What a status of NVIDIA's libraries says when it is no success.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "crema/error.hpp"

namespace crema {

inline void CheckCuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the next launch is not to report it once more
  Fail(call, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ").");
}

inline void CheckCublas(cublasStatus_t status, const char* call) {
  Require(status == CUBLAS_STATUS_SUCCESS, call, " failed: ", cublasGetStatusString(status), ".");
}

inline void CheckCudnn(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char detail[512] = {};
  cudnnGetLastErrorString(detail, sizeof(detail));
  Fail(call, " failed: ", cudnnGetErrorString(status), detail[0] != '\0' ? " - " : "", detail, ".");
}

}  // namespace crema
