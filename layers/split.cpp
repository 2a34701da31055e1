// Split: the bottom, once for each top. A net needs none of it: any number of layers may read a blob.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T, class S>
struct SplitAddGrad {
  const S* dy;
  S* dx;
  CREMA_HD void operator()(int64_t i) const { Store(static_cast<T>(dx[i]) + static_cast<T>(dy[i]), dx + i); }
};

struct Split final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 1, 1, -1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    for (Blob* y : top) y->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context&, const Blobs& bottom, const Blobs& top) override {
    for (Blob* y : top) y->data().CopyFrom(bottom[0]->data());
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    x.grad().CopyFrom(top[0]->grad());
    ForBlob(x.dtype(), [&]<class T, class S>() {
      for (size_t k = 1; k < top.size(); ++k)
        ForEach(ctx, x.count(), SplitAddGrad<T, S>{top[k]->grad<S>(), x.grad<S>()});
    });
  }
};

CREMA_REGISTER_LAYER(Split);

}  // namespace
}  // namespace crema
