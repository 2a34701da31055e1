// Floor 4. What a loss divides by. Called by the loss layers.
#pragma once

#include "crema/context.hpp"
#include "crema/tensor.hpp"

#include "crema.pb.h"

namespace crema {

// What there is to divide by on this rank: samples, their positions, and the positions that count.
struct LossCounts {
  int64_t samples = 0, positions = 0, valid = 0;
};

struct LossMean {
  double loss = 0;
  double divisor = 1;  // of the global batch
};

// How loss_param says to divide, in either of Caffe's spellings; `otherwise` where it does not.
LossParameter::NormalizationMode NormalizationOf(const LossParameter& options,
                                                 LossParameter::NormalizationMode otherwise);
// The mean over all ranks' parts: the sum of their `sum`s by that of what `mode` names, but never by less
// than 1.
LossMean MeanOverRanks(const Context& ctx, double sum, const LossCounts& counts,
                       LossParameter::NormalizationMode mode);
// The sum of a tensor's f64 numbers.
double HostSum(const Tensor& numbers);

}  // namespace crema
