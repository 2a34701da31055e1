// A GPU: memory of CUDA's stream-ordered pool, one compute stream, matrix products by cuBLAS.
#include <algorithm>
#include <cstring>
#include <limits>

#include "crema/device.hpp"
#include "crema/float16.hpp"
#include "cuda/event.hpp"
#include "cuda/handles.hpp"
#include "cuda/pinned.hpp"

namespace crema {

std::unique_ptr<Convolution> NewCudnnConvolution(std::shared_ptr<CudaHandles> handles,
                                                 const ConvolutionSpec& spec);
std::unique_ptr<Upload> NewCudaUpload(std::shared_ptr<CudaHandles> handles);

namespace {

// Copies between the host and the GPU go through two pinned buffers, of which one is filled while the other
// is on its way: from pageable memory the driver would copy in small pieces of its own. Small copies lie one
// behind the other in a buffer, so that the host waits for none of them until both are full.
class Staging {
 public:
  explicit Staging(cudaStream_t stream) : stream_(stream) {}
  ~Staging() { cudaStreamSynchronize(stream_); }
  Staging(const Staging&) = delete;

  void ToDevice(char* to, const char* from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += kBytes) {
      const size_t part = static_cast<size_t>(std::min(kBytes, bytes - at));
      if (used_ + part > static_cast<size_t>(kBytes)) {
        NextHalf().free.Synchronize();
        used_ = 0;
      }
      Half& half = halves_[now_];
      char* room = static_cast<char*>(half.pinned.memory()) + used_;
      std::memcpy(room, from + at, part);
      CheckCuda(cudaMemcpyAsync(to + at, room, part, cudaMemcpyDefault, stream_),
                "cudaMemcpyAsync to the GPU");
      half.free.Record(stream_);
      used_ += (part + kAlignment - 1) / kAlignment * kAlignment;
    }
  }

  void ToHost(char* to, const char* from, int64_t bytes) {
    Half* before = nullptr;  // whose part is still to be taken out
    for (int64_t at = 0; at < bytes; at += kBytes) {
      const size_t part = static_cast<size_t>(std::min(kBytes, bytes - at));
      Half& half = NextHalf();
      CheckCuda(cudaMemcpyAsync(half.pinned.memory(), from + at, part, cudaMemcpyDefault, stream_),
                "cudaMemcpyAsync from the GPU");
      half.free.Record(stream_);
      if (before != nullptr) TakeOut(*before, to + at - kBytes, kBytes);
      before = &half;
    }
    const int64_t last = (bytes - 1) / kBytes * kBytes;
    TakeOut(*before, to + last, bytes - last);
    used_ = 0;  // all copies before that are done
  }

 private:
  static constexpr int64_t kBytes = 16 << 20;
  static constexpr size_t kAlignment = 256;
  struct Half {
    Pinned pinned{kBytes};
    CudaEvent free;  // when the last copy that used it is done
  };

  Half& NextHalf() { return halves_[now_ ^= 1]; }
  static void TakeOut(Half& half, char* to, int64_t bytes) {
    half.free.Synchronize();
    std::memcpy(to, half.pinned.memory(), static_cast<size_t>(bytes));
  }

  cudaStream_t stream_;
  Half halves_[2];
  int now_ = 0;
  size_t used_ = 0;  // of that half, by copies to the GPU
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index), handles_(std::make_shared<CudaHandles>(index)) {
    cudaDeviceProp properties{};
    CheckCuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    name_ = Concat("GPU ", index, " (", properties.name, ")");
    capability_ = properties.major;
    // Freed memory stays in the pool for the next allocation.
    CheckCuda(cudaDeviceGetDefaultMemPool(&pool_, index), "cudaDeviceGetDefaultMemPool");
    uint64_t keep = std::numeric_limits<uint64_t>::max();
    CheckCuda(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep),
              "cudaMemPoolSetAttribute");
    staging_ = std::make_unique<Staging>(handles_->stream());
  }

  std::string name() const override { return name_; }
  bool is_cuda() const override { return true; }
  void* Stream() override {
    handles_->MakeCurrent();
    return handles_->stream();
  }

  std::shared_ptr<void> Allocate(int64_t bytes) override {
    handles_->MakeCurrent();
    void* memory = nullptr;
    const cudaError_t status =
        cudaMallocAsync(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1)), handles_->stream());
    if (status == cudaErrorMemoryAllocation) FailOutOfMemory(bytes);
    CheckCuda(status, "cudaMallocAsync");
    // What the stream still has to do with the memory comes before the freeing.
    return {memory, [handles = handles_](void* freed) { handles->Free(freed); }};
  }

  std::shared_ptr<void> AllocateOnHost(int64_t bytes) override {
    handles_->MakeCurrent();
    void* memory = nullptr;
    const cudaError_t status = cudaMallocHost(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      Fail("out of memory on the host: ", bytes, " bytes of it, locked for ", name_, ", were asked for");
    }
    CheckCuda(status, "cudaMallocHost");
    return {memory, [handles = handles_](void* freed) { handles->FreeOnHost(freed); }};
  }

  // With unified addresses, which every 64-bit system has, CUDA sees on which side each pointer is.
  void Copy(void* to, const void* from, int64_t bytes) override {
    handles_->MakeCurrent();
    if (bytes <= 0) return;
    CheckCuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, handles_->stream()),
              "cudaMemcpyAsync");
  }
  void CopyToHost(void* to, const void* from, int64_t bytes) override {
    handles_->MakeCurrent();
    if (bytes > 0) staging_->ToHost(static_cast<char*>(to), static_cast<const char*>(from), bytes);
  }
  void CopyFromHost(void* to, const void* from, int64_t bytes) override {
    handles_->MakeCurrent();
    if (bytes > 0) staging_->ToDevice(static_cast<char*>(to), static_cast<const char*>(from), bytes);
  }
  std::unique_ptr<Upload> NewUpload() override { return NewCudaUpload(handles_); }
  std::unique_ptr<Device> Beside() override { return std::make_unique<CudaDevice>(index_); }
  void Follow(Device& other) override {
    const auto earlier = static_cast<cudaStream_t>(other.Stream());
    followed_.Order(earlier, static_cast<cudaStream_t>(Stream()));
  }
  void Zero(void* to, int64_t bytes) override {
    handles_->MakeCurrent();
    CheckCuda(cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), handles_->stream()), "cudaMemsetAsync");
  }
  void Synchronize() override {
    handles_->MakeCurrent();
    CheckCuda(cudaStreamSynchronize(handles_->stream()), "cudaStreamSynchronize");
  }

  int64_t PeakBytes() override {
    uint64_t bytes = 0;
    CheckCuda(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &bytes), "cudaMemPoolGetAttribute");
    return static_cast<int64_t>(bytes);
  }

  // Channels last is what tensor cores take.
  int64_t ChannelBlock(DType, int64_t channels) const override { return channels; }
  // Tensor cores multiply f16 from compute capability 7.0 on and bf16 from 8.0 on; before, cuDNN has none of
  // it.
  bool IsFastIn(DType dtype) const override {
    return (dtype == DType::kF16 && capability_ >= 7) || (dtype == DType::kBF16 && capability_ >= 8);
  }

  // cuBLAS goes down columns: it sees each row-major matrix as its transpose, so it is asked for
  // C^T = op(B)^T op(A)^T, the operands exchanged and their own flags and row lengths kept.
  void Gemm(DType dtype, const GemmShape& s, double alpha, const void* a, const void* b, double beta,
            void* c) override {
    if (s.m == 0 || s.n == 0) return;
    handles_->MakeCurrent();
    const auto ta = s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, tb = s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int64_t lda = RowOfA(s), ldb = RowOfB(s), ldc = RowOfC(s);
    const float alpha32 = static_cast<float>(alpha), beta32 = static_cast<float>(beta);
    if (Has16Bits(dtype)) {
      const cudaDataType_t type = dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_16F;
      CheckCublas(cublasGemmEx_64(handles_->cublas(), tb, ta, s.n, s.m, s.k, &alpha32, b, type, ldb, a, type,
                                  lda, &beta32, c, s.narrow_c ? type : CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F,
                                  CUBLAS_GEMM_DEFAULT),
                  "cublasGemmEx");
    } else if (dtype == DType::kF32) {
      CheckCublas(
          cublasSgemm_64(handles_->cublas(), tb, ta, s.n, s.m, s.k, &alpha32, static_cast<const float*>(b),
                         ldb, static_cast<const float*>(a), lda, &beta32, static_cast<float*>(c), ldc),
          "cublasSgemm");
    } else {
      CheckCublas(
          cublasDgemm_64(handles_->cublas(), tb, ta, s.n, s.m, s.k, &alpha, static_cast<const double*>(b),
                         ldb, static_cast<const double*>(a), lda, &beta, static_cast<double*>(c), ldc),
          "cublasDgemm");
    }
  }

  void AllowTf32() override { handles_->AllowTf32(); }
  void AllowVariation() override { handles_->AllowVariation(); }

  std::unique_ptr<Convolution> NewConvolution(const ConvolutionSpec& spec) override {
    handles_->MakeCurrent();
    return NewCudnnConvolution(handles_, spec);
  }

 private:
  [[noreturn]] void FailOutOfMemory(int64_t bytes) const {
    cudaGetLastError();  // the next launch is not to report it once more
    size_t free = 0, total = 0;
    CheckCuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    throw OutOfMemory(Concat("out of memory on ", name_, ": ", bytes, " bytes were asked for where ", free,
                             " of ", total, " are free outside this program's pool"),
                      static_cast<int64_t>(total));
  }

  int index_;
  std::shared_ptr<CudaHandles> handles_;
  CudaEvent followed_;
  std::string name_;
  int capability_ = 0;  // the first number of its compute capability
  cudaMemPool_t pool_ = nullptr;
  std::unique_ptr<Staging> staging_;
};

}  // namespace

std::unique_ptr<Device> NewCudaDevice(int index) {
  const int count = CudaDeviceCount();
  Require(index >= 0 && index < count, "GPU ", index, " was asked for where there are GPUs 0 to ", count - 1);
  return std::make_unique<CudaDevice>(index);
}

}  // namespace crema
