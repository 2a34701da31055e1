// Floor 4. Tensors into another type of elements, another layout, or both. Called by the net and by layers
// that compute on 16 bits with weights of f32.
#pragma once

#include "crema/context.hpp"
#include "crema/float16.hpp"

namespace crema {

// to = factor from, element by element; either may be of f32, f64, bf16 or f16. They have one shape; their
// channels (axis 1 of four) may lie in different blocks.
void Cast(const Context& ctx, const Tensor& from, double factor, Tensor* to);
// sum += factor terms; `sum` is f32 or f64.
void AddCast(const Context& ctx, const Tensor& terms, double factor, Tensor* sum);

}  // namespace crema
