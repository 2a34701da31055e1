// Floor 4. Layers whose top is a function of the bottom, element by element: both passes, given the function.
// Called by those layers.
#pragma once

#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {

template <class T, class S, class Curve>
struct CurveForward {
  const S* x;
  S* y;
  Curve curve;
  CREMA_HD void operator()(int64_t i) const { y[i] = static_cast<S>(curve.Value(static_cast<T>(x[i]))); }
};

template <class T, class S, class Curve>
struct CurveBottomGrad {
  const S *seen, *dy;
  S* dx;
  Curve curve;
  CREMA_HD void operator()(int64_t i) const {
    dx[i] = static_cast<S>(static_cast<T>(dy[i]) * curve.Slope(static_cast<T>(seen[i])));
  }
};

// Curve<T> is an aggregate with the layer's parameters and
//   static Curve Of(const LayerParameter&)
//   CREMA_HD T Value(T x) const      y
//   CREMA_HD T Slope(T seen) const   dy / dx, told by y where BackwardReads() is kTop, else by x
template <template <class> class Curve, Reads reads>
struct Elementwise : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override { return reads; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.count(), CurveForward<T, S, Curve<T>>{x.data<S>(), y.data<S>(), Curve<T>::Of(spec())});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      const S* seen = BackwardReads() == Reads::kTop ? y.data<S>() : x.data<S>();
      ForEach(ctx, x.count(),
              CurveBottomGrad<T, S, Curve<T>>{seen, y.grad<S>(), x.grad<S>(), Curve<T>::Of(spec())});
    });
  }
};

}  // namespace crema
