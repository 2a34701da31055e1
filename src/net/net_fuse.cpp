// The fusion passes: chains of layers that one layer does with fewer sweeps over memory, or less memory. The
// layers stay in layers() with their params; only the steps change.
#include <algorithm>

#include "crema/net.hpp"
#include "net/fused_batch_norm.hpp"
#include "net/net_values.hpp"
#include "net/streaming_head.hpp"

namespace crema {

void Net::Fuse(const Context& ctx) {
  std::vector<bool> gone(steps_.size(), false);
  for (size_t first = 0; first < steps_.size(); ++first) {
    if (steps_[first].layer->type() == "BatchNorm") FuseBatchNorm(ctx, first, &gone);
    if (steps_[first].layer->type() == "DistPartialFC") FuseHead(ctx, first, &gone);
  }
  DropSteps(gone);
}

// The one step that takes each top of a step, all of them and nobody else; 0 where there is none.
size_t Net::OnlyReader(size_t step) const {
  size_t reader = 0;
  for (const Blob* top : steps_[step].top) {
    const Value& value = *value_of_.at(top);
    if (value.loss_weight != 0 || value.uses.size() != 1) return 0;
    if (reader != 0 && value.uses[0]->step != reader) return 0;
    reader = value.uses[0]->step;
  }
  return reader;
}

// BatchNorm + Scale (+ PReLU or ReLU).
void Net::FuseBatchNorm(const Context& ctx, size_t first, std::vector<bool>* gone) {
  const size_t scale = OnlyReader(first);
  if (scale == 0 || !FusedBatchNorm::TakesScale(*steps_[scale].layer)) return;
  const size_t next = OnlyReader(scale);
  const bool activates = next != 0 && FusedBatchNorm::TakesActivation(*steps_[next].layer);
  std::vector<size_t> chain = {first, scale};
  if (activates) chain.push_back(next);
  MergeSteps(ctx, chain,
             std::make_unique<FusedBatchNorm>(*steps_[first].layer, *steps_[scale].layer,
                                              activates ? steps_[next].layer : nullptr),
             gone);
}

// DistPartialFC + MarginSoftmax.
void Net::FuseHead(const Context& ctx, size_t first, std::vector<bool>* gone) {
  const size_t loss = OnlyReader(first);
  if (loss == 0 || steps_[loss].layer->type() != "MarginSoftmax") return;
  for (size_t i = 0; i < 2; ++i) {  // logits and labels, in this order
    if (value_of_.at(steps_[loss].bottom[i]) != value_of_.at(steps_[first].top[i])) return;
  }
  MergeSteps(ctx, {first, loss}, std::make_unique<StreamingHead>(*steps_[first].layer, *steps_[loss].layer),
             gone);
}

// The last step of a chain becomes one with the bottoms of the first and the given layer; the others are
// marked as gone, and what lay between them goes.
void Net::MergeSteps(const Context& ctx, const std::vector<size_t>& chain, std::unique_ptr<Layer> layer,
                     std::vector<bool>* gone) {
  const size_t first = chain.front(), last = chain.back();
  for (Blob* bottom : steps_[first].bottom) {
    for (const auto& use : value_of_.at(bottom)->uses) {
      if (use->blob.get() == bottom) use->step = last;
    }
  }
  for (size_t inner : chain) {
    if (inner == last) continue;
    for (Blob* top : steps_[inner].top) {
      const Value* value = value_of_.at(top);
      if (last_version_.at(value->blob->name()) == value) last_version_.erase(value->blob->name());
      std::erase_if(values_, [&](const auto& owned) { return owned.get() == value; });
    }
    (*gone)[inner] = true;
  }
  made_layers_.push_back(std::move(layer));
  steps_[last] = {made_layers_.back().get(), steps_[first].bottom, steps_[last].top, false};
  steps_[last].layer->Reshape(ctx, steps_[last].bottom, steps_[last].top);
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
