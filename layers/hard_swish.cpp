// HardSwish: y = x min(max(x / 6 + 1 / 2, 0), 1) (MobileNetV3, Howard et al., arXiv 1905.02244).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct HardSwishForward {
  const T* x;
  T* y;
  CREMA_HD void operator()(int64_t i) const {
    y[i] = x[i] <= -3 ? T(0) : x[i] >= 3 ? x[i] : x[i] * (x[i] / 6 + T(0.5));
  }
};

template <class T>
struct HardSwishBottomGrad {
  const T *x, *dy;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    dx[i] = x[i] <= -3 ? T(0) : x[i] >= 3 ? dy[i] : dy[i] * (x[i] / 3 + T(0.5));
  }
};

struct HardSwish final : Layer {
  using Layer::Layer;
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    top[0]->ReshapeLike(*bottom[0]);
  }
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      ForEach(ctx, top[0]->count(), HardSwishForward<T>{bottom[0]->data<T>(), top[0]->data<T>()});
    });
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      ForEach(ctx, top[0]->count(),
              HardSwishBottomGrad<T>{bottom[0]->data<T>(), top[0]->grad<T>(), bottom[0]->grad<T>()});
    });
  }
};

CREMA_REGISTER_LAYER(HardSwish);

}  // namespace
}  // namespace crema
