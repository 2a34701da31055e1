#include "net/cast.hpp"

#include "crema/parallel.hpp"

namespace crema {

namespace {

// The place in one layout of what has place i in another; in the same layout, i.
struct PlaceIn {
  Channel from, to;
  bool same;
  CREMA_HD int64_t operator()(int64_t i) const {
    if (same) return i;
    const int64_t s = i / to.block % to.inner, n = i / (to.block * to.inner * to.groups);
    return from.at(n, to(i), s);
  }
};

template <class T, class From, class To>
struct CastElement {
  const From* from;
  T factor;
  PlaceIn place;
  To* to;
  CREMA_HD void operator()(int64_t i) const {
    to[i] = static_cast<To>(factor * static_cast<T>(from[place(i)]));
  }
};

template <class T, class From>
struct AddCastElement {
  const From* terms;
  T factor;
  PlaceIn place;
  T* sum;
  CREMA_HD void operator()(int64_t i) const { sum[i] += factor * static_cast<T>(terms[place(i)]); }
};

Channel OrderOf(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  if (shape.size() != 4) return {1, 1, tensor.count(), 1};
  return {shape[0], shape[1] / tensor.block(), shape[2] * shape[3], tensor.block()};
}

PlaceIn PlaceOf(const Tensor& from, const Tensor& to) {
  return {OrderOf(from), OrderOf(to), from.block() == to.block()};
}

}  // namespace

void Cast(const Context& ctx, const Tensor& from, double factor, Tensor* to) {
  ForBlob(from.dtype(), [&]<class T, class From>() {
    ForBlob(to->dtype(), [&]<class, class To>() {
      ForEach(ctx, to->count(),
              CastElement<T, From, To>{from.data<From>(), static_cast<T>(factor), PlaceOf(from, *to),
                                       to->data<To>()});
    });
  });
}

void AddCast(const Context& ctx, const Tensor& terms, double factor, Tensor* sum) {
  ForReal(sum->dtype(), [&]<class T>() {
    ForBlob(terms.dtype(), [&]<class, class From>() {
      ForEach(ctx, sum->count(),
              AddCastElement<T, From>{terms.data<From>(), static_cast<T>(factor), PlaceOf(terms, *sum),
                                      sum->data<T>()});
    });
  });
}

}  // namespace crema
