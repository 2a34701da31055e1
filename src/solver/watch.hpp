// Floor 6. What a loss may tell of a run that goes wrong. Called by the solver.
#pragma once

#include <deque>

#include "crema/net.hpp"

namespace crema {

// Warns, once each, of losses that are known signs of trouble.
class LossWatch {
 public:
  explicit LossWatch(const Net& net);
  // Called on the root with the loss of each iteration.
  void See(int64_t iteration, double loss);

 private:
  int64_t classes_ = 0;  // of the only classifier under the loss; 0: unknown
  int64_t seen_ = 0;
  std::deque<double> recent_;
  bool warned_saturated_ = false, warned_lost_ = false, warned_chance_ = false;
};

// Throws Error, on every rank the same, that names the layer where the first value arose that is not finite:
// in the weights, or in the last `passes` passes up to that of `ctx`, which are run once more, or in their
// gradients. `what`: "the loss is nan". Collective.
[[noreturn]] void FailNotFinite(const Context& ctx, Net* net, const std::string& what, int64_t passes = 1);

// Throws the same Error where a weight or statistic is not finite. Collective.
void CheckWeightsFinite(const Context& ctx, const Net& net);

// Adds to `sum`, f64 [1] on the device, how many gradients did not reach the bottom of the net as finite
// numbers: looks at the first weight's, which all ranks have alike, for any NaN above it ends up there; at
// those of all replicated weights where `all` is set, for the sum of a weight's gradient may overflow alone.
void CountBadGradients(const Context& ctx, const Net& net, bool all, Tensor* sum);

}  // namespace crema
