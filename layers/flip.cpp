// Flip: the image mirrored left to right and, as asked for, upside down (happynear/caffe-windows).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class S>
struct FlipCopy {
  const S* in;
  S* out;
  int64_t height, width, block;
  bool rows, columns;  // which are turned round
  CREMA_HD void operator()(int64_t i) const {
    const int64_t position = i / block, w = position % width, h = position / width % height;
    const int64_t plane = position / (width * height);
    const int64_t from_h = rows ? height - 1 - h : h, from_w = columns ? width - 1 - w : w;
    out[i] = in[((plane * height + from_h) * width + from_w) * block + i % block];
  }
};

struct Flip final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() == 4, "bottom '", x.name(), "' is ", ToString(x.shape()),
          " where an image N x C x H x W was expected");
    top[0]->ReshapeLike(x);
  }
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Copy(ctx, *bottom[0], bottom[0]->data(), &top[0]->data());
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Copy(ctx, *bottom[0], top[0]->grad(), &bottom[0]->grad());
  }

 private:
  void Copy(const Context& ctx, const Blob& image, const Tensor& in, Tensor* out) const {
    const FlipParameter& options = spec().flip_param();
    ForBlob(image.dtype(), [&]<class, class S>() {
      ForEach(ctx, image.count(),
              FlipCopy<S>{in.data<S>(), out->data<S>(), image.height(), image.width(), image.block(),
                          options.flip_height(), options.flip_width()});
    });
  }
};

CREMA_REGISTER_LAYER(Flip, "flip_param");

}  // namespace
}  // namespace crema
