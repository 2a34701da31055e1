// A layer run once with bottoms written out, as tests of values need it.
#pragma once

#include <gmock/gmock.h>

#include "contract.hpp"

namespace crema {

using Values = std::vector<double>;

// Of the first top.
inline Shape ShapeOf(const ContractRow& row) {
  return LayerBench(row).top[0]->shape();
}

// 1, 2, 3, ...
inline Values Counting(int64_t count) {
  Values values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i + 1);
  return values;
}

// A layer with these bottoms after Forward.
inline std::unique_ptr<LayerBench> Ran(const ContractRow& row, const std::vector<Values>& bottoms,
                                       int64_t iteration = 0) {
  auto bench = std::make_unique<LayerBench>(row);
  bench->context().iteration = iteration;
  for (size_t k = 0; k < bottoms.size(); ++k) Put(bottoms[k], &bench->bottom[k]->data());
  bench->Forward();
  return bench;
}

inline Values Top(const LayerBench& bench, size_t index = 0) {
  return ValuesOf(bench.top[index]->data());
}

// The gradient of bottom 0 for that of top 0.
inline Values BottomGrad(LayerBench* bench, const Values& top_grad) {
  Put(top_grad, &bench->top[0]->grad());
  bench->Backward();
  return ValuesOf(bench->bottom[0]->grad());
}

inline void ExpectNear(const Values& found, const Values& expected, double tolerance = 1e-12) {
  EXPECT_THAT(found, testing::Pointwise(testing::DoubleNear(tolerance), expected));
}

}  // namespace crema
