// Shapes and memory of a net: every buffer's life in steps, and its place in one arena.
#include <algorithm>

#include "crema/net.hpp"
#include "net/net_values.hpp"
#include "net/plan.hpp"

namespace crema {

void Net::InferShapes(const Context& ctx) {
  for (Step& step : steps_) {
    for (Blob* bottom : step.bottom) bottom->ReshapeLike(*value_of_[bottom]->blob);
    step.layer->Reshape(ctx, step.bottom, step.top);
  }
}

// Time k is step k's Forward, time 2 n - 1 - k its Backward.
void Net::PlanMemory(const Context& ctx) {
  const int64_t n = static_cast<int64_t>(steps_.size());
  const int64_t last = options_.backward ? 2 * n : n;
  const auto backward_time = [&](size_t step) { return 2 * n - 1 - static_cast<int64_t>(step); };
  const auto reads = [&](size_t step, Reads what) {
    return steps_[step].backward &&
           (static_cast<int>(steps_[step].layer->BackwardReads()) & static_cast<int>(what)) != 0;
  };
  std::vector<Lifetime> lives;
  std::vector<std::pair<Blob*, Value*>> grads;  // blobs of lives[values_.size() + i]
  for (const auto& value : values_) {
    Lifetime life{value->blob->bytes(), static_cast<int64_t>(value->step), static_cast<int64_t>(value->step),
                  -1};
    if (reads(value->step, Reads::kTop)) life.end = backward_time(value->step);
    for (const auto& use : value->uses) {
      const bool later = reads(use->step, Reads::kBottom);
      life.end = std::max(life.end, later ? backward_time(use->step) : static_cast<int64_t>(use->step));
    }
    if (value->uses.empty() || options_.keep_blobs) life = {life.bytes, 0, last, -1};
    lives.push_back(life);
  }
  for (const auto& value : values_) {
    Lifetime life{value->blob->bytes(), last, options_.backward ? backward_time(value->step) : 0, -1};
    if (value->starts_filled) life.begin = std::min(life.begin, backward_time(value->step));
    for (const auto& use : value->uses) {
      if (!use->blob->needs_grad()) continue;
      life.begin = std::min(life.begin, backward_time(use->step));
      if (use->own_grad) {
        grads.emplace_back(use->blob.get(), nullptr);
        lives.push_back({life.bytes, backward_time(use->step), backward_time(use->step), -1});
      }
    }
    if (life.begin > life.end) continue;  // nobody makes it
    if (options_.keep_blobs) life.begin = 0, life.end = last;
    grads.emplace_back(value->blob.get(), value.get());
    lives.push_back(life);
  }

  plan_.planned = PlaceBuffers(&lives);
  plan_.unplanned = 0;
  for (const Lifetime& life : lives) plan_.unplanned += life.bytes;
  if (options_.share != nullptr && options_.share->plan_.planned >= plan_.planned) {
    arena_ = options_.share->arena_;  // the two nets never run at once
  } else {
    arena_.reset();
    arena_ = ctx.device->Allocate(std::max<int64_t>(plan_.planned, 64));
  }
  const auto bind = [&](const Blob& blob, int64_t offset) {
    return Tensor(*ctx.device, blob.dtype(), blob.shape(), blob.block(), arena_, offset);
  };
  for (size_t i = 0; i < values_.size(); ++i) {
    Value& value = *values_[i];
    value.blob->data() = bind(*value.blob, lives[i].offset);
    for (const auto& use : value.uses) use->blob->data() = value.blob->data();
  }
  for (size_t i = 0; i < grads.size(); ++i) {
    auto [blob, value] = grads[i];
    blob->grad() = bind(*blob, lives[values_.size() + i].offset);
    if (value == nullptr) continue;
    for (const auto& use : value->uses) {
      if (use->blob->needs_grad() && !use->own_grad) use->blob->grad() = blob->grad();
    }
  }
}

}  // namespace crema
