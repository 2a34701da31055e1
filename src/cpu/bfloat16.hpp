// Floor 1, inside src/cpu. What the CPU does with values of 16 bits: through oneDNN where the processor
// multiplies them (bf16, by AVX512_BF16 or the tiles of AMX), else in f32, to which they are widened.
#pragma once

#include <map>
#include <mutex>
#include <tuple>

#include <dnnl.hpp>

#include "crema/device.hpp"
#include "crema/float16.hpp"

namespace crema {

enum class Bf16Speed {
  kNone,     // no instructions for it
  kVectors,  // AVX512_BF16; convolutions in blocks of channels, as in f32
  kTiles,    // AMX; convolutions channels last
};
Bf16Speed OneDnnBf16Speed();

// Products of bf16 matrices by oneDNN, whose plans are made once for each shape. Any thread may call.
class Bf16Products {
 public:
  void Gemm(const GemmShape& shape, double alpha, const void* a, const void* b, double beta, void* c);

 private:
  struct Plan {
    dnnl::memory::desc a, b, c;
    dnnl::matmul product;
  };
  using Key =
      std::tuple<bool, bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, float, float>;
  const Plan& PlanFor(const GemmShape& shape, float alpha, float beta);

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::mutex mutex_;
  std::map<Key, Plan> plans_;
};

// The same for either type of 16 bits by the device's product of f32.
void WidenedGemm(Device& device, DType dtype, const GemmShape& shape, double alpha, const void* a,
                 const void* b, double beta, void* c);

// Whether oneDNN has a convolution of bf16 for it that is not slow.
bool TakesBf16(const ConvolutionSpec& spec);
// A convolution on 16 bits that is computed in f32; `block` is that of the f32 kernels.
std::unique_ptr<Convolution> NewWidenedConvolution(const ConvolutionSpec& spec, int64_t block);

}  // namespace crema
