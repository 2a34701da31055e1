// ReLU6: y = min(max(x, 0), 6) (MobileNetV2, Sandler et al., arXiv 1801.04381).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct ReLU6Forward {
  const T* x;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[i] > 6 ? T(6) : x[i] > 0 ? x[i] : T(0); }
};

template <class T>
struct ReLU6BottomGrad {
  const T *y, *dy;
  T* dx;
  CREMA_HD void operator()(int64_t i) const { dx[i] = y[i] > 0 && y[i] < 6 ? dy[i] : T(0); }
};

struct ReLU6 final : Layer {
  using Layer::Layer;
  Reads BackwardReads() const override { return Reads::kTop; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    top[0]->ReshapeLike(*bottom[0]);
  }
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      ForEach(ctx, top[0]->count(), ReLU6Forward<T>{bottom[0]->data<T>(), top[0]->data<T>()});
    });
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      ForEach(ctx, top[0]->count(),
              ReLU6BottomGrad<T>{top[0]->data<T>(), top[0]->grad<T>(), bottom[0]->grad<T>()});
    });
  }
};

CREMA_REGISTER_LAYER(ReLU6);

}  // namespace
}  // namespace crema
