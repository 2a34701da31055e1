// Floor 4. Numbers between the host and tensors. Called by layers and by the net.
#pragma once

#include <vector>

#include "crema/blob.hpp"
#include "crema/context.hpp"

namespace crema {

// As an i64 tensor [numbers.size()] on the context's device.
inline Tensor OnDevice(const Context& ctx, const std::vector<int64_t>& numbers) {
  Tensor tensor(*ctx.device, DType::kI64, {static_cast<int64_t>(numbers.size())});
  tensor.FromHost(numbers);
  return tensor;
}

// The labels of a blob of i64, f32 or f64. Waits for the device unless the host has them.
inline std::vector<int64_t> HostLabels(const Blob& blob) {
  if (blob.host_numbers() != nullptr) return *blob.host_numbers();
  if (blob.dtype() == DType::kI64) return blob.data().ToHost<int64_t>();
  std::vector<int64_t> labels;
  ForReal(blob.dtype(), [&]<class T>() {
    for (T value : blob.data().ToHost<T>()) labels.push_back(static_cast<int64_t>(value));
  });
  return labels;
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
