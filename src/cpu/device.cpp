#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include <cblas.h>
#include <sys/mman.h>

#include "crema/device.hpp"

namespace crema {

std::unique_ptr<Convolution> NewReferenceConvolution(const ConvolutionSpec& spec);
std::unique_ptr<Convolution> NewCpuConvolution(const ConvolutionSpec& spec, int64_t block);
int64_t OneDnnBlock();

namespace {

constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kHugeFrom = 16 << 20;  // below it, rounding up to huge pages would waste too much

class CpuDevice final : public Device {
 public:
  std::string name() const override { return "cpu"; }

  std::shared_ptr<void> Allocate(int64_t bytes) override {
    const int64_t alignment = bytes >= kHugeFrom ? kHugePage : 64;
    const int64_t size = std::max<int64_t>(1, (bytes + alignment - 1) / alignment) * alignment;
    void* memory = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(size));
    Require(memory != nullptr, "out of memory: ", bytes, " bytes were asked for");
    if (alignment == kHugePage) madvise(memory, static_cast<size_t>(size), MADV_HUGEPAGE);
    return {memory, std::free};
  }
  void Copy(void* to, const void* from, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void CopyToHost(void* to, const void* from, int64_t bytes) override { Copy(to, from, bytes); }
  void CopyFromHost(void* to, const void* from, int64_t bytes) override { Copy(to, from, bytes); }
  void Zero(void* to, int64_t bytes) override { std::memset(to, 0, static_cast<size_t>(bytes)); }

  // An image's channels stay planes: oneDNN's fast first convolutions take those, but not channels-last.
  int64_t ChannelBlock(int64_t channels) const override {
    return channels % block_ == 0 ? block_ : channels <= 3 ? 1 : channels;
  }

  void Gemm(DType dtype, const GemmShape& s, double alpha, const void* a, const void* b, double beta,
            void* c) override {
    for (int64_t size : {s.m, s.n, s.k, s.lda, s.ldb, s.ldc}) {
      Require(size <= std::numeric_limits<int>::max(), "a matrix product has a side of ", size,
              "; this build of OpenBLAS counts to 2^31");
    }
    const auto ta = s.transpose_a ? CblasTrans : CblasNoTrans, tb = s.transpose_b ? CblasTrans : CblasNoTrans;
    const int m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
    const int lda = s.lda ? static_cast<int>(s.lda) : s.transpose_a ? m : k;
    const int ldb = s.ldb ? static_cast<int>(s.ldb) : s.transpose_b ? k : n;
    const int ldc = s.ldc ? static_cast<int>(s.ldc) : n;
    if (m == 0 || n == 0) return;
    if (dtype == DType::kF32) {
      cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, static_cast<float>(alpha), static_cast<const float*>(a),
                  std::max(1, lda), static_cast<const float*>(b), std::max(1, ldb), static_cast<float>(beta),
                  static_cast<float*>(c), ldc);
    } else {
      cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, static_cast<const double*>(a), std::max(1, lda),
                  static_cast<const double*>(b), std::max(1, ldb), beta, static_cast<double*>(c), ldc);
    }
  }

  std::unique_ptr<Convolution> NewConvolution(const ConvolutionSpec& spec) override {
    if (spec.dtype == DType::kF64) return NewReferenceConvolution(spec);
    return NewCpuConvolution(spec, block_);
  }

 private:
  const int64_t block_ = OneDnnBlock();
};

}  // namespace

std::unique_ptr<Device> NewCpuDevice() {
  return std::make_unique<CpuDevice>();
}

}  // namespace crema
