#include "net/unit_samples.hpp"

#include <cmath>

#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct SampleProduct {
  const T *a, *b;
  int64_t length;
  CREMA_HD T operator()(int64_t n, int64_t k) const { return a[n * length + k] * b[n * length + k]; }
};

template <class T>
struct InverseLength {
  T *square, eps;
  CREMA_HD void operator()(int64_t n) const { square[n] = 1 / sqrt(square[n] + eps); }
};

template <class T>
struct ScaleSamples {
  const T *x, *inverse;
  int64_t length;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[i] * inverse[i / length]; }
};

template <class T>
struct UnitSampleGrad {                 // dx = (dy - y (y . dy)) / length
  const T *x, *dy, *inverse, *product;  // product: x . dy
  int64_t length;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const T r = inverse[i / length];
    dx[i] = r * (dy[i] - x[i] * r * r * product[i / length]);
  }
};

}  // namespace

void UnitSampleLayer::Reshape(const Context&, const Blobs& bottom, const Blobs& top) {
  const Blob& x = *bottom[0];
  Check(x.axes() >= 1 && x.count() > 0, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
        " found where samples N x ... were expected");
  length_ = x.count() / x.num();
  top[0]->ReshapeLike(x);
}

void UnitSampleLayer::Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  Blob &x = *bottom[0], &y = *top[0];
  ForReal(x.dtype(), [&]<class T>() {
    inverse_ = Tensor(*ctx.device, DTypeOf<T>(), {x.num()});
    T* inverse = inverse_.data<T>();
    RowReduce<Reduce::kSum>(ctx, x.num(), length_, SampleProduct<T>{x.data<T>(), x.data<T>(), length_},
                            inverse);
    ForEach(ctx, x.num(), InverseLength<T>{inverse, static_cast<T>(eps())});
    ForEach(ctx, x.count(), ScaleSamples<T>{x.data<T>(), inverse, length_, y.data<T>()});
  });
}

void UnitSampleLayer::Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) {
  Blob &x = *bottom[0], &y = *top[0];
  ForReal(x.dtype(), [&]<class T>() {
    Tensor products(*ctx.device, DTypeOf<T>(), {x.num()});
    T* product = products.data<T>();
    RowReduce<Reduce::kSum>(ctx, x.num(), length_, SampleProduct<T>{x.data<T>(), y.grad<T>(), length_},
                            product);
    ForEach(ctx, x.count(),
            UnitSampleGrad<T>{x.data<T>(), y.grad<T>(), inverse_.data<T>(), product, length_, x.grad<T>()});
  });
}

}  // namespace crema
