// Sigmoid: y = 1 / (1 + exp(-x)).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct SigmoidForward {
  const T* x;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = T(0.5) * tanh(T(0.5) * x[i]) + T(0.5); }
};

template <class T>
struct SigmoidBottomGrad {
  const T *y, *dy;
  T* dx;
  CREMA_HD void operator()(int64_t i) const { dx[i] = dy[i] * y[i] * (1 - y[i]); }
};

struct Sigmoid final : Layer {
  using Layer::Layer;
  Reads BackwardReads() const override { return Reads::kTop; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(), SigmoidForward<T>{x.data<T>(), y.data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(), SigmoidBottomGrad<T>{y.data<T>(), y.grad<T>(), x.grad<T>()});
    });
  }
};

CREMA_REGISTER_LAYER(Sigmoid, "sigmoid_param");

}  // namespace
}  // namespace crema
