// ChannelScale: y = s x, s a number for each sample or each position, the second bottom
// (happynear/caffe-windows).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// x is [outer, channels, inner], s is [outer, inner].
template <class T>
struct TimesPosition {
  const T *x, *s;
  int64_t channels, inner;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = s[i / (channels * inner) * inner + i % inner] * x[i]; }
};

template <class T>
struct PositionGradTerm {
  const T *x, *dy;
  int64_t channels, inner;
  CREMA_HD T operator()(int64_t position, int64_t c) const {
    const int64_t i = (position / inner * channels + c) * inner + position % inner;
    return x[i] * dy[i];
  }
};

struct ChannelScale final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob &x = *bottom[0], &s = *bottom[1];
    Check(x.axes() >= 2, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " found where N x C x ... was expected");
    channels_ = x.channels(), inner_ = x.count(2);
    Check(s.num() == x.num() && s.count() == x.num() * inner_ && s.dtype() == x.dtype(), "bottom '", s.name(),
          "' is ", ToString(s.shape()), " ", NameOf(s.dtype()), "; expected a ", NameOf(x.dtype()),
          " for each sample and position of '", x.name(), "' (", ToString(x.shape()), ")");
    top[0]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      ForEach(
          ctx, top[0]->count(),
          TimesPosition<T>{bottom[0]->data<T>(), bottom[1]->data<T>(), channels_, inner_, top[0]->data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &s = *bottom[1], &y = *top[0];
    ForReal(y.dtype(), [&]<class T>() {
      if (x.needs_grad()) {
        ForEach(ctx, x.count(), TimesPosition<T>{y.grad<T>(), s.data<T>(), channels_, inner_, x.grad<T>()});
      }
      if (s.needs_grad()) {
        RowReduce<Reduce::kSum>(ctx, s.count(), channels_,
                                PositionGradTerm<T>{x.data<T>(), y.grad<T>(), channels_, inner_},
                                s.grad<T>());
      }
    });
  }

 private:
  int64_t channels_ = 0, inner_ = 0;
};

CREMA_REGISTER_LAYER(ChannelScale);

}  // namespace
}  // namespace crema
