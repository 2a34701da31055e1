// Floor 4. Weights whose rows are held at length 1. Called by the layers that compare directions:
// InnerProduct (normalize), MarginInnerProduct.
#pragma once

#include "crema/layer.hpp"

namespace crema {

// Sums of squares of the rows of a [rows, length] tensor, as a [rows] tensor in f64.
Tensor RowSquares(const Context& ctx, const Tensor& rows);

// Divides each row of [rows, length] by its L2 norm, in place. A row that has length 1 but for rounding, or
// that is all zero, is left as it is, so that a second call changes nothing.
void MakeRowsUnit(const Context& ctx, Tensor* rows);

}  // namespace crema
