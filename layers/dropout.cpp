// Dropout: in TRAIN sets a random share of the elements to zero and scales the others up by as much; in TEST
// the identity (Srivastava et al., "Dropout", JMLR 15, 2014).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Each element's draw is numbered by its place in the global batch in Caffe's order, so that the mask depends
// neither on the ranks nor on the layout and can be made again in Backward.
template <class T, class S>
struct DropoutMask {
  const S* in;
  S* out;
  Philox random;
  int64_t first;  // number of this rank's first element
  Channel order;
  double ratio;
  T scale;
  CREMA_HD void operator()(int64_t i, int64_t c) const {
    const int64_t n = i / (order.block * order.inner * order.groups), s = i / order.block % order.inner;
    const int64_t number = first + (n * order.channels() + c) * order.inner + s;
    const bool drops = random.Uniform(static_cast<uint64_t>(number)) < ratio;
    out[i] = static_cast<S>(drops ? T(0) : static_cast<T>(in[i]) * scale);
  }
};

struct Dropout final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    Check(ratio() >= 0 && ratio() < 1, "dropout_ratio is ", ratio(), "; expected at least 0 and below 1");
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    if (phase() == TEST) {
      y.data().CopyFrom(x.data());
      return;
    }
    const std::vector<int64_t> samples = ctx.comm->AllGatherNumber(x.num());
    first_ = 0;
    for (int rank = 0; rank < ctx.comm->rank(); ++rank) first_ += samples[static_cast<size_t>(rank)];
    if (x.axes() > 1) first_ *= x.count(1);
    random_ = ctx.Random("dropout/" + name());
    Mask(ctx, x, x.data(), &y.data());
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    if (phase() == TEST) {
      bottom[0]->grad().CopyFrom(top[0]->grad());
    } else {
      Mask(ctx, *bottom[0], top[0]->grad(), &bottom[0]->grad());
    }
  }

 private:
  double ratio() const { return static_cast<double>(spec().dropout_param().dropout_ratio()); }

  void Mask(const Context& ctx, const Blob& x, const Tensor& in, Tensor* out) const {
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.channel(),
              DropoutMask<T, S>{in.data<S>(), out->data<S>(), random_, first_, x.channel(), ratio(),
                                static_cast<T>(1 / (1 - ratio()))});
    });
  }

  Philox random_;      // of the last Forward
  int64_t first_ = 0;  // number of this rank's first element in the global batch
};

CREMA_REGISTER_LAYER(Dropout, "dropout_param");

}  // namespace
}  // namespace crema
