// Floor 4. The mean that a loss is, over the global batch. Called by the loss layers.
#pragma once

#include "crema/blob.hpp"
#include "crema/context.hpp"
#include "crema/tensor.hpp"

#include "crema.pb.h"

namespace crema {

// What there is to divide by on this rank: samples, their positions, and the positions that count.
struct LossCounts {
  int64_t samples = 0, positions = 0, valid = 0;
  Tensor valid_terms{};  // f64 on the device; their sum, unless it is empty, is taken instead of `valid`
};

// How loss_param says to divide, in either of Caffe's spellings; `otherwise` where it does not.
LossParameter::NormalizationMode NormalizationOf(const LossParameter& options,
                                                 LossParameter::NormalizationMode otherwise);

// The sum of all ranks' terms by the sum of what a mode names, but never by less than 1. It is made on the
// device: the host waits for nothing.
class LossMean {
 public:
  // Of this rank's `terms`, f64, times `factor`, into the scalar `top`.
  void Write(const Context& ctx, const Tensor& terms, const LossCounts& counts,
             LossParameter::NormalizationMode mode, double factor, Blob* top);
  // What the last Write divided by, in the device's memory.
  const double* divisor() const { return sums_.data<double>() + 1; }

 private:
  Tensor sums_;  // f64 [2]: of the terms; the divisor
};

}  // namespace crema
