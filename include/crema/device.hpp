// Floor 1. Device: memory and the heavy operations a vendor's library does. Kernels of our own run through
// parallel.hpp, not through here. Called by floors 2 to 5; implemented in src/cpu (and src/cuda).
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "crema/tensor.hpp"

namespace crema {

// Scratch memory of one operation at a time: Get() returns the same growing buffer on each call.
class Scratch {
 public:
  explicit Scratch(Device& device) : device_(&device) {}
  // At least `bytes`, aligned to 64, undefined contents; valid until the next Get().
  void* Get(int64_t bytes);
  template <class T>
  T* Get(int64_t count) {
    return static_cast<T*>(Get(count * static_cast<int64_t>(sizeof(T))));
  }
  int64_t bytes() const { return bytes_; }

 private:
  Device* device_;
  std::shared_ptr<void> memory_;
  int64_t bytes_ = 0;
};

// C = alpha * op(A) op(B) + beta * C, row-major: op(A) is M x K, op(B) is K x N, C is M x N.
struct GemmShape {
  bool transpose_a = false, transpose_b = false;
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;  // 0: the row length
  bool narrow_c = false;              // where A and B have 16 bits: C has their type, not f32
};
inline int64_t RowOfA(const GemmShape& s) {
  return std::max<int64_t>(1, s.lda ? s.lda : s.transpose_a ? s.m : s.k);
}
inline int64_t RowOfB(const GemmShape& s) {
  return std::max<int64_t>(1, s.ldb ? s.ldb : s.transpose_b ? s.k : s.n);
}
inline int64_t RowOfC(const GemmShape& s) {
  return s.ldc ? s.ldc : s.n;
}

// A two-dimensional convolution (cross-correlation, as in Caffe). Weights are [outputs, channels / groups,
// kernel h, kernel w] in Caffe's order; x and y have the given channel blocks. All of them are `dtype`; with
// 16 bits there is no bias.
struct ConvolutionSpec {
  DType dtype = DType::kF32;
  int64_t batch = 0, channels = 0, height = 0, width = 0, outputs = 0, groups = 1;
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  int64_t dilation_h = 1, dilation_w = 1;
  bool bias = false;
  int64_t x_block = 1, y_block = 1;

  auto operator<=>(const ConvolutionSpec&) const = default;

  // floor((H + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1
  int64_t out_height() const {
    return (height + 2 * pad_h - (dilation_h * (kernel_h - 1) + 1)) / stride_h + 1;
  }
  int64_t out_width() const { return (width + 2 * pad_w - (dilation_w * (kernel_w - 1) + 1)) / stride_w + 1; }
};

class Convolution {
 public:
  virtual ~Convolution() = default;
  // `bias` may be null where the spec has none.
  virtual void Forward(Scratch& scratch, const Tensor& x, const Tensor& w, const Tensor* bias, Tensor* y) = 0;
  // Writes dx.
  virtual void BackwardData(Scratch& scratch, const Tensor& dy, const Tensor& w, Tensor* dx) = 0;
  // Adds to dw and, where it is not null, to dbias.
  virtual void BackwardWeights(Scratch& scratch, const Tensor& x, const Tensor& dy, Tensor* dw,
                               Tensor* dbias) = 0;
  // With 16 bits: the type of dw, and the blocks of channels in which w and dw are given.
  virtual DType WeightGradType() const { return DType::kF32; }
  virtual int64_t WeightBlock() const { return 1; }
  // The most memory that a call takes besides its arguments, of its scratch memory or of its own: of Forward
  // and, as they are wanted, of BackwardData and BackwardWeights.
  virtual int64_t WorkspaceBytes(bool data, bool weights) = 0;
};

// Copies from the host that go on beside what the device computes.
class Upload {
 public:
  virtual ~Upload() = default;
  // What the device has been given so far comes before what is sent from now on.
  virtual void Begin() = 0;
  // Into all of `to`. Also on another thread than the device's, one at a time; `from` is free afterwards.
  virtual void Send(Tensor* to, const void* from) = 0;
  // What the device is given from now on comes after all that was sent.
  virtual void Wait() = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "cpu (AMD EPYC, 2 threads)"
  virtual bool is_cuda() const { return false; }

  // Aligned to 64 bytes; freed when the last copy of the pointer goes.
  virtual std::shared_ptr<void> Allocate(int64_t bytes) = 0;
  // The same in the host's memory, where the device's kernels reach it too, more slowly than their own.
  virtual std::shared_ptr<void> AllocateOnHost(int64_t bytes) { return Allocate(bytes); }
  // `from` and `to` of the device's side may be of either Allocate.
  virtual void Copy(void* to, const void* from, int64_t bytes) = 0;
  virtual void CopyToHost(void* to, const void* from, int64_t bytes) = 0;
  virtual void CopyFromHost(void* to, const void* from, int64_t bytes) = 0;
  // Null where it would gain nothing, on the CPU.
  virtual std::unique_ptr<Upload> NewUpload() { return nullptr; }
  // The same GPU with a stream of its own: what that is given goes on beside what this is given, and both
  // reach the memory of either. Null on the CPU.
  virtual std::unique_ptr<Device> Beside() { return nullptr; }
  // What this is given from now on comes after all that the other, of the same GPU, has been given.
  virtual void Follow(Device&) {}
  virtual void Zero(void* to, int64_t bytes) = 0;
  virtual void Synchronize() {}
  // The most bytes of its own memory that were in use at a time so far; 0 where the device does not count.
  virtual int64_t PeakBytes() { return 0; }
  // The stream that kernels are launched on (a cudaStream_t), its GPU made the calling thread's own; null on
  // the CPU.
  virtual void* Stream() { return nullptr; }

  // The channel block it wants for activations of so many channels.
  virtual int64_t ChannelBlock(DType dtype, int64_t channels) const = 0;
  // Whether it multiplies values of this type of 16 bits faster than f32. Where not, it computes in f32.
  virtual bool IsFastIn(DType dtype) const = 0;

  // A and B are dtype, and so is C where that is f32 or f64. Where it is bf16 or f16, C is f32 unless
  // narrow_c is set, and sums are f32 in any case.
  virtual void Gemm(DType dtype, const GemmShape& shape, double alpha, const void* a, const void* b,
                    double beta, void* c) = 0;
  // From now on, products and convolutions of f32 may round their factors to 10 bits behind the leading one
  // (TF32), for which tensor cores are fast; sums stay f32. Throws Error where the device has nothing of the
  // kind.
  virtual void AllowTf32() { Fail("precision TF32 is of GPUs; this is ", name()); }
  // From now on, convolutions may use algorithms whose sums differ in their last bits from run to run. Of no
  // consequence where the device has none.
  virtual void AllowVariation() {}
  // Throws Error where the library cannot do it.
  virtual std::unique_ptr<Convolution> NewConvolution(const ConvolutionSpec& spec) = 0;
};

// The CPU, through OpenBLAS and oneDNN, with OpenMP's threads.
std::unique_ptr<Device> NewCpuDevice();
// A GPU, through cuBLAS and cuDNN, by its number among those that CUDA shows. Throws Error where there is no
// such GPU, or where this build has no CUDA support.
std::unique_ptr<Device> NewCudaDevice(int index);
// How many GPUs there are; throws Error like NewCudaDevice where there is none.
int CudaDeviceCount();

// What this build can run on, a line for each device, then the versions of its libraries. Throws Error where
// a build with CUDA finds no GPU.
std::vector<std::string> DescribeDevices();

}  // namespace crema
