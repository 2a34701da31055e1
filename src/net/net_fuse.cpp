// The fusion pass: chains of layers that one layer does with fewer sweeps over memory.
#include <algorithm>

#include "crema/net.hpp"
#include "net/fused_batch_norm.hpp"
#include "net/net_values.hpp"

namespace crema {

// BatchNorm + Scale (+ PReLU or ReLU), where nobody else reads what is in between, becomes one
// FusedBatchNorm. The layers stay in layers() with their params; only the steps change.
void Net::FuseBatchNorms(const Context& ctx) {
  std::vector<bool> gone(steps_.size(), false);
  const auto only_reader = [&](size_t step) -> size_t {  // of the step's one top; 0 where there is none
    const Step& s = steps_[step];
    if (s.top.size() != 1) return 0;
    const Value& value = *value_of_.at(s.top[0]);
    return value.loss_weight == 0 && value.uses.size() == 1 ? value.uses[0]->step : 0;
  };
  for (size_t first = 0; first < steps_.size(); ++first) {
    if (steps_[first].layer->type() != "BatchNorm") continue;
    const size_t scale = only_reader(first);
    if (scale == 0 || !FusedBatchNorm::TakesScale(*steps_[scale].layer)) continue;
    const size_t next = only_reader(scale);
    const bool activates = next != 0 && FusedBatchNorm::TakesActivation(*steps_[next].layer);
    const size_t last = activates ? next : scale;
    made_layers_.push_back(std::make_unique<FusedBatchNorm>(*steps_[first].layer, *steps_[scale].layer,
                                                            activates ? steps_[next].layer : nullptr));
    Use* use = nullptr;
    for (const auto& candidate : value_of_.at(steps_[first].bottom[0])->uses) {
      if (candidate->blob.get() == steps_[first].bottom[0]) use = candidate.get();
    }
    use->step = last;
    steps_[last] = {made_layers_.back().get(), steps_[first].bottom, steps_[last].top, false};
    for (size_t inner : {first, scale}) {
      if (inner == last) continue;
      const Value* value = value_of_.at(steps_[inner].top[0]);
      if (last_version_.at(value->blob->name()) == value) last_version_.erase(value->blob->name());
      std::erase_if(values_, [&](const auto& owned) { return owned.get() == value; });
      gone[inner] = true;
    }
    steps_[last].layer->Reshape(ctx, steps_[last].bottom, steps_[last].top);
  }
  DropSteps(gone);
}

// Removes the steps marked, and numbers the others anew.
void Net::DropSteps(const std::vector<bool>& gone) {
  std::vector<size_t> number(steps_.size());
  std::vector<Step> kept;
  for (size_t k = 0; k < steps_.size(); ++k) {
    number[k] = kept.size();
    if (!gone[k]) kept.push_back(steps_[k]);
  }
  steps_ = std::move(kept);
  for (const auto& value : values_) {
    value->step = number[value->step];
    for (const auto& use : value->uses) use->step = number[use->step];
    std::stable_sort(value->uses.begin(), value->uses.end(),
                     [](const auto& a, const auto& b) { return a->step < b->step; });
  }
}

}  // namespace crema
