// Floor 4. What BatchNorm and its fused form share: the statistics of a batch and their running means.
#pragma once

#include <vector>

#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {

// Mean and 1 / sqrt(variance + eps) of each channel.
class BatchMoments {
 public:
  Tensor mean, inverse_std;  // [C]

  // Of this batch (biased variance), and into the running statistics as Caffe keeps them: sums decayed by
  // `fraction` with a common factor, the variance times m / (m - 1). `params`: mean, variance, factor.
  void OfBatch(const Context& ctx, Blob& x, std::vector<std::shared_ptr<Param>>& params, double fraction,
               double eps);
  // The same by parts: once StartBatch, which allocates, then those of each part's channels.
  void StartBatch(const Context& ctx, Blob& x, std::vector<std::shared_ptr<Param>>& params, double fraction);
  void OfPart(const Context& ctx, Blob& x, const Groups& part, std::vector<std::shared_ptr<Param>>& params,
              double fraction, double eps);
  // The running ones.
  void OfRunning(const Context& ctx, std::vector<std::shared_ptr<Param>>& params, double eps);

 private:
  void Allocate(const Context& ctx, DType dtype, int64_t channels);

  Tensor sums_;  // [C, 2] of a batch
};

}  // namespace crema
