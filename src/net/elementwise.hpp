// Floor 4. Layers whose top is a function of the bottom, element by element: both passes, given the function.
// Called by those layers.
#pragma once

#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {

template <class T, class Curve>
struct CurveForward {
  const T* x;
  T* y;
  Curve curve;
  CREMA_HD void operator()(int64_t i) const { y[i] = curve.Value(x[i]); }
};

template <class T, class Curve>
struct CurveBottomGrad {
  const T *seen, *dy;
  T* dx;
  Curve curve;
  CREMA_HD void operator()(int64_t i) const { dx[i] = dy[i] * curve.Slope(seen[i]); }
};

// Curve<T> is an aggregate with the layer's parameters and
//   static Curve Of(const LayerParameter&)
//   CREMA_HD T Value(T x) const      y
//   CREMA_HD T Slope(T seen) const   dy / dx, told by y where BackwardReads() is kTop, else by x
template <template <class> class Curve, Reads reads>
struct Elementwise : Layer {
  using Layer::Layer;
  Reads BackwardReads() const override { return reads; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(), CurveForward<T, Curve<T>>{x.data<T>(), y.data<T>(), Curve<T>::Of(spec())});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      const T* seen = BackwardReads() == Reads::kTop ? y.data<T>() : x.data<T>();
      ForEach(ctx, x.count(),
              CurveBottomGrad<T, Curve<T>>{seen, y.grad<T>(), x.grad<T>(), Curve<T>::Of(spec())});
    });
  }
};

}  // namespace crema
