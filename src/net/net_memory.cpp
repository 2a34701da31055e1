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

// A top is worth recomputing if only the Backward of later steps reads it, and its maker's bottoms stay
// anyway.
void Net::MarkRecomputed() {
  const auto reads = [&](size_t step, Reads what) {
    return steps_[step].backward &&
           (static_cast<int>(steps_[step].layer->BackwardReads()) & static_cast<int>(what)) != 0;
  };
  for (const auto& value : values_) {
    value->recomputed = false;
    const Step& maker = steps_[value->step];
    if (!options_.backward || options_.keep_blobs || !spec_.fuse() || !maker.layer->CanRecompute()) continue;
    if (value->uses.empty() || reads(value->step, Reads::kTop) || !reads(value->step, Reads::kBottom))
      continue;
    bool bottoms_stay = true;
    for (const Blob* bottom : maker.bottom) bottoms_stay &= !value_of_.at(bottom)->recomputed;
    for (const auto& use : value->uses) {
      if (!reads(use->step, Reads::kBottom)) continue;
      value->recomputed = bottoms_stay;
      value->again_at = use->step;  // the last of them is the first to run backward
    }
  }
}

// Time k is step k's Forward, time 2 n - 1 - k its Backward.
void Net::PlanMemory(const Context& ctx) {
  MarkRecomputed();
  const int64_t n = static_cast<int64_t>(steps_.size());
  const int64_t last = options_.backward ? 2 * n : n;
  const auto backward_time = [&](size_t step) { return 2 * n - 1 - static_cast<int64_t>(step); };
  const auto reads = [&](size_t step, Reads what) {
    return steps_[step].backward &&
           (static_cast<int>(steps_[step].layer->BackwardReads()) & static_cast<int>(what)) != 0;
  };
  std::vector<Lifetime> lives;
  std::vector<std::function<void(const Tensor&)>> binds;  // what to do with the memory of each
  std::vector<const Blob*> blobs;
  int64_t kept = 0;
  const auto add = [&](const Blob& blob, int64_t begin, int64_t end,
                       std::function<void(const Tensor&)> bind) {
    if (options_.keep_blobs) begin = 0, end = last;
    lives.push_back({blob.bytes(), begin, end, -1});
    blobs.push_back(&blob);
    binds.push_back(std::move(bind));
  };
  for (const auto& owned : values_) {
    Value* value = owned.get();
    const int64_t begin = static_cast<int64_t>(value->step);
    int64_t end = reads(value->step, Reads::kTop) ? backward_time(value->step) : begin;
    int64_t last_forward = begin;
    for (const auto& use : value->uses) {
      last_forward = std::max(last_forward, static_cast<int64_t>(use->step));
      if (reads(use->step, Reads::kBottom)) end = std::max(end, backward_time(use->step));
    }
    if (value->uses.empty()) end = last;
    const Step& maker = steps_[value->step];
    if (maker.bottom.empty() && !maker.layer->IsSource()) {
      // What SetInput wrote stays for any number of passes, so it lies outside the arena.
      kept += value->blob->bytes();
      if (options_.dry) continue;
      Tensor data(*ctx.device, value->blob->dtype(), value->blob->shape(), value->blob->block());
      data.Zero();
      value->Bind(data);
    } else if (value->recomputed) {
      add(*value->blob, begin, last_forward, [value](const Tensor& data) { value->forward_data = data; });
      add(*value->blob, backward_time(value->again_at), end,
          [value](const Tensor& data) { value->backward_data = data; });
    } else {
      add(*value->blob, begin, std::max(end, last_forward),
          [value](const Tensor& data) { value->Bind(data); });
    }
  }
  for (const auto& owned : values_) {
    Value* value = owned.get();
    int64_t begin = last, end = options_.backward ? backward_time(value->step) : 0;
    if (value->starts_filled) begin = end;
    for (const auto& use : value->uses) {
      if (!use->blob->needs_grad()) continue;
      const int64_t time = backward_time(use->step);
      begin = std::min(begin, time);
      Blob* blob = use->blob.get();
      if (use->own_grad) add(*blob, time, time, [blob](const Tensor& grad) { blob->grad() = grad; });
    }
    if (begin > end) continue;  // nobody makes it
    add(*value->blob, begin, end, [value](const Tensor& grad) {
      value->blob->grad() = grad;
      for (const auto& use : value->uses) {
        if (use->blob->needs_grad() && !use->own_grad) use->blob->grad() = grad;
      }
    });
  }

  arena_bytes_ = PlaceBuffers(&lives);
  plan_.planned = arena_bytes_ + kept;
  plan_.unplanned = kept;
  for (const Lifetime& life : lives) plan_.unplanned += life.bytes;
  const bool shares = options_.share != nullptr && options_.share->arena_bytes_ >= arena_bytes_;
  plan_.inputs = kept;
  plan_.arena = shares ? 0 : arena_bytes_;
  if (options_.dry) return;
  if (shares) {
    arena_ = options_.share->arena_;  // the two nets never run at once
  } else {
    arena_.reset();
    arena_ = ctx.device->Allocate(std::max<int64_t>(arena_bytes_, 64));
  }
  for (size_t i = 0; i < lives.size(); ++i) {
    const Blob& blob = *blobs[i];
    binds[i](Tensor(*ctx.device, blob.dtype(), blob.shape(), blob.block(), arena_, lives[i].offset));
  }
}

}  // namespace crema
