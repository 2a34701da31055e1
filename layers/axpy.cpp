// Axpy: y = a x + b of the bottoms a, x and b, a holding a number for each sample's channel (squeeze and
// excitation, Hu et al., arXiv 1709.01507).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// a is [N, C], in this order whatever the layout of the images.
template <class T>
struct AxpyForward {
  const T *a, *x, *b;  // b: null for none
  Channel order;
  T* y;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t channels = order.channels();
    y[i] = a[i / (channels * order.inner) * channels + c] * x[i] + (b ? b[i] : T(0));
  }
};

template <class T>
struct AxpyFactorTerm {
  const T *x, *dy;
  Channel order;
  CREMA_HD T operator()(int64_t row, int64_t s) const {
    const int64_t i = order.at(row / order.channels(), row % order.channels(), s);
    return x[i] * dy[i];
  }
};

struct Axpy final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {3, 3, 1, 1}; }
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
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.channel(),
              AxpyForward<T>{a.data<T>(), x.data<T>(), b.data<T>(), x.channel(), top[0]->data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &a = *bottom[0], &x = *bottom[1], &b = *bottom[2], &y = *top[0];
    const Channel order = x.channel();
    ForReal(x.dtype(), [&]<class T>() {
      if (a.needs_grad()) {
        RowReduce<Reduce::kSum>(ctx, a.count(), order.inner,
                                AxpyFactorTerm<T>{x.data<T>(), y.grad<T>(), order}, a.grad<T>());
      }
      if (x.needs_grad()) {
        ForEach(ctx, order, AxpyForward<T>{a.data<T>(), y.grad<T>(), nullptr, order, x.grad<T>()});
      }
    });
    if (b.needs_grad()) b.grad().CopyFrom(y.grad());
  }
};

CREMA_REGISTER_LAYER(Axpy);

}  // namespace
}  // namespace crema
