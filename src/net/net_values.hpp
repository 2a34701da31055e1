// Floor 4, used by src/net/net*.cpp alone. What Net keeps about its edges.
#pragma once

#include <memory>
#include <vector>

#include "crema/net.hpp"

namespace crema {

// A step's bottom: the value's data, and a gradient of its own where several steps make one.
struct Net::Use {
  Value* value = nullptr;
  size_t step = 0;
  std::unique_ptr<Blob> blob;
  bool own_grad = false;  // the gradient goes to its own memory and is added to the value's afterwards
};

// One version of a named blob: made by one step, read by any number of later ones.
struct Net::Value {
  std::unique_ptr<Blob> blob;
  size_t step = 0;  // that makes it
  float loss_weight = 0;
  bool starts_filled =
      false;  // its gradient starts as loss_weight (or 0) everywhere before the uses add theirs
  std::vector<std::unique_ptr<Use>> uses;
  // Data that is dropped after Forward and made again in Backward, just before step `again_at`, elsewhere.
  bool recomputed = false;
  size_t again_at = 0;
  Tensor forward_data, backward_data;
  void Bind(const Tensor& data) {
    blob->data() = data;
    for (const auto& use : uses) use->blob->data() = data;
  }
};

}  // namespace crema
