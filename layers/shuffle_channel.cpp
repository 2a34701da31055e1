// ShuffleChannel: the channels, written as `group` rows, read by columns (ShuffleNet, Zhang et al., arXiv
// 1707.01083).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class T>
struct ShuffleCopy {
  const T* in;
  Channel order;
  int64_t rows;
  T* out;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t n = i / (order.channels() * order.inner), s = i / order.block % order.inner;
    out[i] = in[order.at(n, c % rows * (order.channels() / rows) + c / rows, s)];
  }
};

struct ShuffleChannel final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() >= 2, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " found where N x C x ... was expected");
    Check(group() > 0 && x.channels() % group() == 0, group(), " groups do not divide ", x.channels(),
          " channels");
    top[0]->ReshapeLike(x);
  }
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Shuffle(ctx, bottom[0]->channel(), group(), bottom[0]->data(), &top[0]->data());
  }
  // The same with rows and columns exchanged.
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Shuffle(ctx, bottom[0]->channel(), bottom[0]->channels() / group(), top[0]->grad(), &bottom[0]->grad());
  }

 private:
  int64_t group() const { return spec().shuffle_channel_param().group(); }
  static void Shuffle(const Context& ctx, const Channel& order, int64_t rows, const Tensor& in, Tensor* out) {
    ForBlob(in.dtype(), [&]<class T, class S>() {
      ForEach(ctx, order, ShuffleCopy<S>{in.data<S>(), order, rows, out->data<S>()});
    });
  }
};

CREMA_REGISTER_LAYER(ShuffleChannel, "shuffle_channel_param");

}  // namespace
}  // namespace crema
