// Floor 6. The outputs of a net over the batches of a test pass. Called by the solver and by tools.
#pragma once

#include <vector>

#include "crema/net.hpp"

namespace crema {

class TestPass {
 public:
  explicit TestPass(const Net& net) : net_(&net) {}
  // After each Forward, which gave this loss. Returns the batch's own outputs.
  std::vector<Net::Output> Add(double loss);
  // Means over the batches so far; of what a layer accumulates over the pass, its last value.
  std::vector<Net::Output> Means() const;
  double MeanLoss() const { return loss_ / static_cast<double>(batches_); }

 private:
  bool Accumulates(const std::string& blob) const;

  const Net* net_;
  std::vector<Net::Output> sums_;
  double loss_ = 0;
  int64_t batches_ = 0;
};

// Warns, on the root, where the batches of a pass read a database more than once and a layer measures over
// the whole pass (VerificationAccuracy): it would count records twice.
void WarnOfRepeats(const Context& ctx, const Net& net, int64_t batches);

}  // namespace crema
