// Upsample: each pixel repeated scale by scale times.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

template <class S>
struct RepeatPixels {
  const S* x;
  int64_t height, width, block, scale;  // of the bottom
  S* y;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t position = i / block, w = position % (width * scale), row = position / (width * scale);
    const int64_t plane = row / (height * scale), h = row % (height * scale);
    y[i] = x[((plane * height + h / scale) * width + w / scale) * block + i % block];
  }
};

template <class T, class S>
struct SumOfRepeats {
  const S* dy;
  int64_t height, width, block, scale;
  S* dx;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t position = i / block, w = position % width,
                  row = position / width;  // row: plane and height
    T sum = 0;
    for (int64_t a = 0; a < scale; ++a) {
      for (int64_t b = 0; b < scale; ++b)
        sum += static_cast<T>(dy[((row * scale + a) * width * scale + w * scale + b) * block + i % block]);
    }
    Store(sum, dx + i);
  }
};

struct Upsample final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() == 4, "bottom '", x.name(), "' is ", ToString(x.shape()),
          " where an image N x C x H x W was expected");
    Check(scale() >= 1, "scale is ", scale(), "; expected at least 1");
    top[0]->Reshape(x.dtype(), {x.num(), x.channels(), x.height() * scale(), x.width() * scale()}, x.block());
  }
  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, y.count(),
              RepeatPixels<S>{x.data<S>(), x.height(), x.width(), x.block(), scale(), y.data<S>()});
    });
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      ForEach(ctx, x.count(),
              SumOfRepeats<T, S>{y.grad<S>(), x.height(), x.width(), x.block(), scale(), x.grad<S>()});
    });
  }

 private:
  int64_t scale() const { return spec().upsample_param().scale(); }
};

CREMA_REGISTER_LAYER(Upsample, "upsample_param");

}  // namespace
}  // namespace crema
