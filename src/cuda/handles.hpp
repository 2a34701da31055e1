// Floor 1, inside src/cuda. A GPU's compute stream and the libraries' handles on it, made when they are first
// needed: a device for copies beside another needs none. Shared by the device, its convolutions and its
// memory, whichever goes last.
#pragma once

#include <map>
#include <optional>

#include "crema/device.hpp"
#include "cuda/check.hpp"

namespace crema {

// The algorithms for convolutions of one shape, chosen when they are first needed.
struct ConvolutionPlan {
  std::optional<cudnnConvolutionFwdAlgoPerf_t> forward;
  std::optional<cudnnConvolutionBwdDataAlgoPerf_t> data;
  std::optional<cudnnConvolutionBwdFilterAlgoPerf_t> weights;
};

class CudaHandles {
 public:
  explicit CudaHandles(int index) : index_(index) {
    MakeCurrent();
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  ~CudaHandles() {
    cudaSetDevice(index_);
    cudaStreamSynchronize(stream_);
    if (cudnn_ != nullptr) cudnnDestroy(cudnn_);
    if (cublas_ != nullptr) cublasDestroy(cublas_);
    cudaStreamDestroy(stream_);
  }
  CudaHandles(const CudaHandles&) = delete;

  // CUDA keeps a GPU for each thread; what follows on this thread goes to this one.
  void MakeCurrent() const { CheckCuda(cudaSetDevice(index_), "cudaSetDevice"); }
  // After all that the stream has been given so far. Does not throw: it runs in destructors, and a GPU that
  // fails says so at the next call.
  void Free(void* memory) const {
    cudaSetDevice(index_);
    cudaFreeAsync(memory, stream_);
  }

  void FreeOnHost(void* memory) const {
    cudaSetDevice(index_);
    cudaStreamSynchronize(stream_);
    cudaFreeHost(memory);
  }

  void AllowTf32() {
    tf32_ = true;
    if (cublas_ != nullptr) SetMath();
  }
  bool tf32() const { return tf32_; }
  void AllowVariation() { varies_ = true; }
  bool varies() const { return varies_; }
  // Shared by all layers of a shape.
  ConvolutionPlan& PlanFor(const ConvolutionSpec& spec) { return plans_[spec]; }

  cudaStream_t stream() const { return stream_; }
  cublasHandle_t cublas() {
    if (cublas_ == nullptr) {
      MakeCurrent();
      CheckCublas(cublasCreate(&cublas_), "cublasCreate");
      CheckCublas(cublasSetStream(cublas_, stream_), "cublasSetStream");
      SetMath();
    }
    return cublas_;
  }
  cudnnHandle_t cudnn() {
    if (cudnn_ == nullptr) {
      MakeCurrent();
      CheckCudnn(cudnnCreate(&cudnn_), "cudnnCreate");
      CheckCudnn(cudnnSetStream(cudnn_, stream_), "cudnnSetStream");
    }
    return cudnn_;
  }

 private:
  // Sums of products of 16 bits stay f32 where cuBLAS adds up parts of them.
  void SetMath() const {
    const int with_wide_sums = (tf32_ ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH) |
                               CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    CheckCublas(cublasSetMathMode(cublas_, static_cast<cublasMath_t>(with_wide_sums)), "cublasSetMathMode");
  }

  int index_;
  bool tf32_ = false, varies_ = false;
  std::map<ConvolutionSpec, ConvolutionPlan> plans_;
  cudaStream_t stream_ = nullptr;
  cublasHandle_t cublas_ = nullptr;
  cudnnHandle_t cudnn_ = nullptr;
};

}  // namespace crema
