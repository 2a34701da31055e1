// ReLU: y = max(x, 0) + negative_slope * min(x, 0).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct ReLUForward {
  const T* x;
  T* y;
  T slope;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[i] > 0 ? x[i] : slope * x[i]; }
};

template <class T>
struct ReLUBottomGrad {
  const T *side, *dy;  // side: x, or what has its sign
  T* dx;
  T slope;
  CREMA_HD void operator()(int64_t i) const { dx[i] = side[i] > 0 ? dy[i] : slope * dy[i]; }
};

struct ReLU final : Layer {
  using Layer::Layer;
  // The top tells the sign of the bottom, unless a negative slope turns it round.
  Reads BackwardReads() const override { return slope() >= 0 ? Reads::kTop : Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(), ReLUForward<T>{x.data<T>(), y.data<T>(), static_cast<T>(slope())});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      const T* side = slope() >= 0 ? y.data<T>() : x.data<T>();
      ForEach(ctx, x.count(), ReLUBottomGrad<T>{side, y.grad<T>(), x.grad<T>(), static_cast<T>(slope())});
    });
  }

 private:
  float slope() const { return spec().relu_param().negative_slope(); }
};

CREMA_REGISTER_LAYER(ReLU, "relu_param");

}  // namespace
}  // namespace crema
