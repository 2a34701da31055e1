// Axpy: y = a x + b of the bottoms a, x and b, a holding a number for each sample's channel (squeeze and
// excitation, Hu et al., arXiv 1709.01507).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// a is [N, C], in this order whatever the layout of the images.
template <class T, class S>
struct AxpyForward {
  const S *a, *x, *b;  // b: null for none
  Channel order;
  S* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t channels = order.channels();
    const T factor = static_cast<T>(a[i / (channels * order.inner) * channels + c]);
    Store(factor * static_cast<T>(x[i]) + (b ? static_cast<T>(b[i]) : T(0)), y + i);
  }
};

// Of the number for a sample's channel.
template <class T, class S>
struct AxpyFactorGrad {
  const S *x, *dy;
  Channel order;
  S* da;
  template <class Lanes>
  CREMA_HD void operator()(int64_t row, const Lanes& lanes) const {
    T sum = 0;
    for (int64_t s = lanes.first(); s < order.inner; s += lanes.step()) {
      const int64_t i = order.at(row / order.channels(), row % order.channels(), s);
      sum += static_cast<T>(x[i]) * static_cast<T>(dy[i]);
    }
    sum = lanes.Sum(sum);
    if (lanes.Visits(0)) Store(sum, da + row);
  }
};

struct Axpy final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {3, 3, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob &a = *bottom[0], &x = *bottom[1], &b = *bottom[2];
    Check(x.axes() >= 2 && b.shape() == x.shape() && b.dtype() == x.dtype(), "bottoms '", x.name(), "' (",
          ToString(x.shape()), " ", NameOf(x.dtype()), ") and '", b.name(), "' (", ToString(b.shape()), " ",
          NameOf(b.dtype()), ") found where two of one shape N x C x ... were expected");
    Check(a.axes() >= 2 && a.num() == x.num() && a.channels() == x.channels() && a.count(2) == 1 &&
              a.dtype() == x.dtype(),
          "bottom '", a.name(), "' is ", ToString(a.shape()), " ", NameOf(a.dtype()), "; expected a ",
          NameOf(x.dtype()), " for each sample and channel of '", x.name(), "' (", ToString(x.shape()), ")");
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &a = *bottom[0], &x = *bottom[1], &b = *bottom[2];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.channel(),
              AxpyForward<T, S>{a.data<S>(), x.data<S>(), b.data<S>(), x.channel(), top[0]->data<S>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &a = *bottom[0], &x = *bottom[1], &b = *bottom[2], &y = *top[0];
    const Channel order = x.channel();
    ForBlob(x.dtype(), [&]<class T, class S>() {
      if (a.needs_grad())
        ForEachRow(ctx, a.count(), AxpyFactorGrad<T, S>{x.data<S>(), y.grad<S>(), order, a.grad<S>()});
      if (x.needs_grad()) {
        ForEach(ctx, order, AxpyForward<T, S>{a.data<S>(), y.grad<S>(), nullptr, order, x.grad<S>()});
      }
    });
    if (b.needs_grad()) b.grad().CopyFrom(y.grad());
  }
};

CREMA_REGISTER_LAYER(Axpy);

}  // namespace
}  // namespace crema
