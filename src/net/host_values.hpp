// Floor 4. Numbers of the host into tensors. Called by layers and by the net.
#pragma once

#include <vector>

#include "crema/context.hpp"

namespace crema {

// As an i64 tensor [numbers.size()] on the context's device.
inline Tensor OnDevice(const Context& ctx, const std::vector<int64_t>& numbers) {
  Tensor tensor(*ctx.device, DType::kI64, {static_cast<int64_t>(numbers.size())});
  tensor.FromHost(numbers);
  return tensor;
}

// Into a tensor of f32 or f64 that has as many elements.
inline void WriteFloats(const std::vector<float>& values, Tensor* to) {
  if (to->dtype() == DType::kF32) {
    to->FromHost(values);
  } else {
    to->FromHost(std::vector<double>(values.begin(), values.end()));
  }
}

}  // namespace crema
