// Floor 6. Single numbers of a whole tensor, for clipping, debug output and the search for values that are
// not finite. Called by the solver's parts.
#pragma once

#include <vector>

#include "crema/blob.hpp"
#include "crema/context.hpp"

namespace crema {

enum class Measure {
  kSquares,    // sum of squares
  kMagnitude,  // sum of absolute values
  kNotFinite,  // number of NaN and infinite values
};

// Of the first `count` elements; all of them where count is negative. Integer tensors have none: 0.
double MeasureOf(const Context& ctx, Measure measure, const Tensor& x, int64_t count = -1);

// Of a weight's value, part by part where it lies in a file.
double MeasureOf(const Context& ctx, Measure measure, const Param& param);

// Adds that of tensors, all of f32 or all of f64, to `sum`, f64 [1], on the device, for which the host does
// not wait.
void AddMeasure(const Context& ctx, Measure measure, const std::vector<Tensor>& tensors, Tensor* sum);

}  // namespace crema
