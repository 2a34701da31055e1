// Floor 4. A part of a blob along one axis, copied in or out. Called by Concat and Slice.
#pragma once

#include "crema/blob.hpp"
#include "crema/parallel.hpp"

namespace crema {

// Positions [first, first + part) of the `whole` positions of an axis, `inner` elements each.
struct AxisPart {
  int64_t outer = 1, whole = 0, first = 0, part = 0, inner = 1;
  CREMA_HD int64_t count() const { return outer * part * inner; }
  // Index in the whole of element i of the part.
  CREMA_HD int64_t at(int64_t i) const {
    return (i / (part * inner) * whole + first) * inner + i % (part * inner);
  }
};

template <class T>
struct CopyIntoWhole {
  const T* part;
  T* whole;
  AxisPart axis;
  CREMA_HD void operator()(int64_t i) const { whole[axis.at(i)] = part[i]; }
};

template <class T>
struct CopyOutOfWhole {
  const T* whole;
  T* part;
  AxisPart axis;
  CREMA_HD void operator()(int64_t i) const { part[i] = whole[axis.at(i)]; }
};

// Calls f.operator()<T>() for real numbers and for labels.
template <class F>
void ForRealOrLabel(DType dtype, F&& f) {
  if (dtype == DType::kI64) {
    f.template operator()<int64_t>();
  } else {
    ForReal(dtype, f);
  }
}

// And for 16 bits.
template <class F>
void ForBlobOrLabel(DType dtype, F&& f) {
  if (Has16Bits(dtype)) {
    For16Bits(dtype, f);
  } else {
    ForRealOrLabel(dtype, f);
  }
}

inline void CopyPartIn(const Context& ctx, const AxisPart& axis, const Tensor& part, Tensor* whole) {
  ForBlobOrLabel(part.dtype(), [&]<class T>() {
    ForEach(ctx, axis.count(), CopyIntoWhole<T>{part.data<T>(), whole->data<T>(), axis});
  });
}

inline void CopyPartOut(const Context& ctx, const AxisPart& axis, const Tensor& whole, Tensor* part) {
  ForBlobOrLabel(part->dtype(), [&]<class T>() {
    ForEach(ctx, axis.count(), CopyOutOfWhole<T>{whole.data<T>(), part->data<T>(), axis});
  });
}

}  // namespace crema
