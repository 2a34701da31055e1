// Floor 1, inside src/cpu. Products of matrices by oneDNN, and which of them it is the one to ask for.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include <dnnl.hpp>

#include "crema/device.hpp"
#include "crema/float16.hpp"

namespace crema {

// Whether oneDNN uses at least these instructions here.
bool OneDnnHas(dnnl::cpu_isa isa);

// How fast the processor multiplies bf16.
enum class Bf16Speed {
  kNone,     // it has no instructions for it
  kVectors,  // AVX512_BF16; convolutions in blocks of channels, as in f32
  kTiles,    // AMX; convolutions channels last
};
Bf16Speed OneDnnBf16Speed();

// Products of f32 or bf16 matrices, whose plans are made once for each shape. Any thread may call; each has
// workspace of its own, for the library's is not safe where a plan runs on several threads at once.
class OneDnnProducts {
 public:
  // Whether it takes a product; else OpenBLAS or, for 16 bits, WidenedGemm does. Not f32 below AVX-512, where
  // the library (2.6.3) takes its sgemm, which goes past the end of its own workspace: runs that used it died
  // of a corrupted heap now and then. With AVX-512 it is faster than OpenBLAS, which does not know every new
  // processor and then falls back to SSE3.
  bool Takes(DType dtype, const GemmShape& shape) const;
  void Gemm(DType dtype, const GemmShape& shape, double alpha, const void* a, const void* b, double beta,
            void* c);

 private:
  struct Plan {
    dnnl::memory::desc a, b, c, workspace;
    dnnl::matmul product;
  };
  using Key =
      std::tuple<DType, bool, bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, float, float>;
  std::shared_ptr<const Plan> PlanFor(DType dtype, const GemmShape& shape, float alpha, float beta);
  std::shared_ptr<const Plan> NewPlan(DType dtype, const GemmShape& shape, float alpha, float beta) const;
  void* WorkspaceOfThread(size_t bytes);

  const bool f32_ = OneDnnHas(dnnl::cpu_isa::avx512_core);
  const bool bf16_ = OneDnnBf16Speed() != Bf16Speed::kNone;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::mutex mutex_;  // of the two below
  std::map<Key, std::shared_ptr<const Plan>> plans_;
  std::map<std::thread::id, std::vector<char>> workspaces_;
};

}  // namespace crema
