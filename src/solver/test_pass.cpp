#include "solver/test_pass.hpp"

namespace crema {

bool TestPass::Accumulates(const std::string& blob) const {
  bool result = false;
  for (const Net::Step& step : net_->steps())
    for (const Blob* top : step.top)
      if (top->name() == blob) result = step.layer->AccumulatesOverPass();
  return result;
}

std::vector<Net::Output> TestPass::Add(double loss) {
  const std::vector<Net::Output> outputs = net_->outputs();
  const std::vector<Net::Output> before = std::exchange(sums_, outputs);
  for (size_t i = 0; i < before.size(); ++i) {
    if (Accumulates(sums_[i].name)) continue;
    for (size_t k = 0; k < sums_[i].values.size(); ++k) sums_[i].values[k] += before[i].values[k];
  }
  loss_ += loss;
  ++batches_;
  return outputs;
}

std::vector<Net::Output> TestPass::Means() const {
  std::vector<Net::Output> means = sums_;
  for (Net::Output& output : means) {
    if (Accumulates(output.name)) continue;
    for (float& value : output.values) value /= static_cast<float>(batches_);
  }
  return means;
}

}  // namespace crema
