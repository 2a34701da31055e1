// ChannelScale: y = s x, s a number for each sample or each position, the second bottom
// (happynear/caffe-windows).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// x is [outer, channels, inner], s is [outer, inner].
template <class T, class S>
struct TimesPosition {
  const S *x, *s;
  int64_t channels, inner;
  S* y;
  CREMA_HD void operator()(int64_t i) const {
    const T factor = static_cast<T>(s[i / (channels * inner) * inner + i % inner]);
    Store(factor * static_cast<T>(x[i]), y + i);
  }
};

template <class S>
struct PositionGrad {
  const S *x, *dy;
  int64_t channels, inner;
  S* ds;
  template <class Lanes>
  CREMA_HD void operator()(int64_t position, const Lanes& lanes) const {
    double sum = 0;
    for (int64_t c = lanes.first(); c < channels; c += lanes.step()) {
      const int64_t i = (position / inner * channels + c) * inner + position % inner;
      sum += static_cast<double>(x[i]) * static_cast<double>(dy[i]);
    }
    sum = lanes.Sum(sum);
    if (lanes.Visits(0)) Store(sum, ds + position);
  }
};

struct ChannelScale final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
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
    ForBlob(top[0]->dtype(), [&]<class T, class S>() {
      ForEach(ctx, top[0]->count(),
              TimesPosition<T, S>{bottom[0]->data<S>(), bottom[1]->data<S>(), channels_, inner_,
                                  top[0]->data<S>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &s = *bottom[1], &y = *top[0];
    ForBlob(y.dtype(), [&]<class T, class S>() {
      if (x.needs_grad()) {
        ForEach(ctx, x.count(),
                TimesPosition<T, S>{y.grad<S>(), s.data<S>(), channels_, inner_, x.grad<S>()});
      }
      if (s.needs_grad()) {
        ForEachRow(ctx, s.count(), PositionGrad<S>{x.data<S>(), y.grad<S>(), channels_, inner_, s.grad<S>()});
      }
    });
  }

 private:
  int64_t channels_ = 0, inner_ = 0;
};

CREMA_REGISTER_LAYER(ChannelScale);

}  // namespace
}  // namespace crema
