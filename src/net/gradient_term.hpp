// Floor 4. The term of a bias's gradient. Called by layers that add one by ColumnReduce.
#pragma once

#include "crema/bfloat16.hpp"
#include "crema/parallel.hpp"

namespace crema {

// Element i of the top's gradient, of T or stored in 16 bits, times a factor (ParamGradFactor).
template <class T, class S>
struct GradientTerm {
  const S* dy;
  T factor;
  CREMA_HD T operator()(int64_t i, int64_t) const { return factor * static_cast<T>(dy[i]); }
};

}  // namespace crema
