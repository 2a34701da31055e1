// Floor 6. SolverParameter.precision: what the nets compute in, and the loss scale of FP16. Called by the
// solver's parts.
#pragma once

#include "crema.pb.h"
#include "crema/context.hpp"
#include "crema/float16.hpp"

namespace crema {

// What Context::activations is to be for a solver's nets.
DType ActivationsOf(const SolverParameter& spec, DType real);

// What gradients travel as between ranks. Throws Error for TF32.
DType GradientExchangeOf(const SolverParameter& spec);

// Makes the device ready for it. Throws Error where the device cannot compute so: TF32 is of GPUs, and old
// ones know no bf16.
void PrepareDevice(const SolverParameter& spec, const Context& ctx);

// What the user should know of it before the first iteration; empty: nothing.
std::string NoteOnPrecision(const SolverParameter& spec, const Context& ctx);

// Dynamic loss scaling (Micikevicius et al., arXiv 1710.03740, section 3.2): the scale is halved whenever a
// gradient overflows, in an iteration whose update is left out, and doubled after 2,000 iterations without.
class LossScale {
 public:
  static constexpr double kFirst = 1 << 16, kMost = 1 << 24;
  static constexpr int64_t kPatience = 2000;

  double value() const { return value_; }
  int64_t iterations() const { return iterations_; }  // since it changed
  void Restore(double value, int64_t iterations) { value_ = value, iterations_ = iterations; }

  void AfterFinite() {
    if (++iterations_ < kPatience) return;
    value_ = value_ < kMost ? 2 * value_ : value_;
    iterations_ = 0;
  }
  // False where there is nothing left to halve: what is not finite is no overflow.
  bool AfterOverflow() {
    if (value_ <= 1) return false;
    value_ /= 2, iterations_ = 0;
    return true;
  }

 private:
  double value_ = kFirst;
  int64_t iterations_ = 0;
};

}  // namespace crema
