#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include <cblas.h>
#include <glog/logging.h>
#include <sys/mman.h>

#include "cpu/products.hpp"
#include "cpu/widened.hpp"
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
  int64_t ChannelBlock(DType dtype, int64_t channels) const override {
    if (dtype == DType::kBF16 && bf16_ == Bf16Speed::kTiles) return channels;
    return channels % block_ == 0 ? block_ : channels <= 3 ? 1 : channels;
  }

  bool IsFastIn(DType dtype) const override { return dtype == DType::kBF16 && bf16_ != Bf16Speed::kNone; }

  void Gemm(DType dtype, const GemmShape& s, double alpha, const void* a, const void* b, double beta,
            void* c) override {
    if (s.m == 0 || s.n == 0) return;
    if (products_.Takes(dtype, s)) return products_.Gemm(dtype, s, alpha, a, b, beta, c);
    if (Has16Bits(dtype)) return WidenedGemm(*this, dtype, s, alpha, a, b, beta, c);
    const int64_t lda = RowOfA(s), ldb = RowOfB(s), ldc = RowOfC(s);
    for (int64_t size : {s.m, s.n, s.k, lda, ldb, ldc}) {
      Require(size <= std::numeric_limits<int>::max(), "a matrix product has a side of ", size,
              "; OpenBLAS counts to 2^31");
    }
    const auto int_of = [](int64_t x) { return static_cast<int>(x); };
    const auto turned = [](bool is) { return is ? CblasTrans : CblasNoTrans; };
    if (dtype == DType::kF32) {
      cblas_sgemm(CblasRowMajor, turned(s.transpose_a), turned(s.transpose_b), int_of(s.m), int_of(s.n),
                  int_of(s.k), static_cast<float>(alpha), static_cast<const float*>(a), int_of(lda),
                  static_cast<const float*>(b), int_of(ldb), static_cast<float>(beta), static_cast<float*>(c),
                  int_of(ldc));
      return;
    }
    cblas_dgemm(CblasRowMajor, turned(s.transpose_a), turned(s.transpose_b), int_of(s.m), int_of(s.n),
                int_of(s.k), alpha, static_cast<const double*>(a), int_of(lda), static_cast<const double*>(b),
                int_of(ldb), beta, static_cast<double*>(c), int_of(ldc));
  }

  std::unique_ptr<Convolution> NewConvolution(const ConvolutionSpec& spec) override {
    if (spec.dtype == DType::kF64) return NewReferenceConvolution(spec);
    if (Has16Bits(spec.dtype) && !IsFastIn(spec.dtype)) return NewWidenedConvolution(spec, block_);
    return NewCpuConvolution(spec, block_);
  }

 private:
  const int64_t block_ = OneDnnBlock();
  const Bf16Speed bf16_ = OneDnnBf16Speed();
  OneDnnProducts products_;
};

}  // namespace

std::unique_ptr<Device> NewCpuDevice() {
  return std::make_unique<CpuDevice>();
}

}  // namespace crema
