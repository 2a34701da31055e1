#include "solver/test_pass.hpp"

#include <glog/logging.h>

#include <algorithm>

#include "net/data_layer.hpp"

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

void WarnOfRepeats(const Context& ctx, const Net& net, int64_t batches) {
  const auto& layers = net.layers();
  if (std::none_of(layers.begin(), layers.end(),
                   [](const auto& layer) { return layer->AccumulatesOverPass(); }))
    return;
  const int64_t samples = batches * net.batch_size() * ctx.comm->size();
  for (const auto& layer : layers) {
    const auto* data = dynamic_cast<const DataLayer*>(layer.get());
    if (data == nullptr || samples <= data->records()) continue;
    LOG_IF(WARNING, ctx.comm->root())
        << "A test pass reads " << samples << " samples, but '" << layer->name() << "' has "
        << data->records() << ": some count twice in what is measured over the pass; set test_iter lower";
  }
}

}  // namespace crema
