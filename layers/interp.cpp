// Interp: bilinear interpolation to another size, the corners' centres on each other (DeepLab, Chen et al.,
// arXiv 1606.00915).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Along one axis, output o lies at the place o (size - 1) / (out - 1) of the `size` inputs that begin at
// `begin`.
struct InterpAxis {
  int64_t begin = 0, size = 0, out = 0;
  int64_t whole = 0;  // inputs in all

  CREMA_HD int64_t below(int64_t o) const { return out > 1 ? o * (size - 1) / (out - 1) : 0; }
  // Of the input above the one below.
  CREMA_HD double share(int64_t o) const {
    return out > 1 ? static_cast<double>(o * (size - 1) % (out - 1)) / static_cast<double>(out - 1) : 0;
  }
  CREMA_HD int64_t above(int64_t o) const { return below(o) + 1 < size ? below(o) + 1 : below(o); }
  // How much of input i is in output o.
  CREMA_HD double weight(int64_t i, int64_t o) const {
    return (i - begin == below(o) ? 1 - share(o) : 0) + (i - begin == above(o) ? share(o) : 0);
  }
  // The outputs that may have a part of input i: [first, last).
  CREMA_HD int64_t first(int64_t i) const {
    const int64_t before = i - begin - 1;
    return before <= 0 || size == 1 ? 0 : before * (out - 1) / (size - 1);
  }
  CREMA_HD int64_t last(int64_t i) const {
    const int64_t after = i - begin + 1;
    if (after < 0 || out == 1 || size == 1) return after < 0 ? 0 : out;
    const int64_t end = after * (out - 1) / (size - 1) + 1;
    return end < out ? end : out;
  }
};

// Channels lie in blocks of `block` beside each other.
template <class S>
struct InterpForward {
  const S* x;
  InterpAxis h, w;
  int64_t block;
  S* y;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t position = i / block, ow = position % w.out, oh = position / w.out % h.out;
    const S* in = x + position / (w.out * h.out) * h.whole * w.whole * block + i % block;
    const double low = Row(in, h.below(oh), ow), high = Row(in, h.above(oh), ow);
    Store(low + h.share(oh) * (high - low), y + i);
  }
  CREMA_HD double Row(const S* in, int64_t row, int64_t ow) const {
    const S* begin = in + ((h.begin + row) * w.whole + w.begin) * block;
    const double left = static_cast<double>(begin[w.below(ow) * block]),
                 right = static_cast<double>(begin[w.above(ow) * block]);
    return left + w.share(ow) * (right - left);
  }
};

template <class S>
struct InterpBottomGrad {
  const S* dy;
  InterpAxis h, w;
  int64_t block;
  S* dx;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t position = i / block, iw = position % w.whole, ih = position / w.whole % h.whole;
    const S* out = dy + position / (w.whole * h.whole) * h.out * w.out * block + i % block;
    double sum = 0;
    for (int64_t oh = h.first(ih); oh < h.last(ih); ++oh) {
      for (int64_t ow = w.first(iw); ow < w.last(iw); ++ow)
        sum += h.weight(ih, oh) * w.weight(iw, ow) * static_cast<double>(out[(oh * w.out + ow) * block]);
    }
    Store(sum, dx + i);
  }
};

struct Interp final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {1, 2, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  Layouts layouts() const override { return spec().bottom_size() > 1 ? Layouts::kCaffe : Layouts::kSame; }
  bool BottomHasGradient(int index) const override { return index == 0; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() == 4, "bottom '", x.name(), "' is ", ToString(x.shape()),
          " where an image N x C x H x W was expected");
    Check(options().pad_beg() <= 0 && options().pad_end() <= 0, "pad_beg is ", options().pad_beg(),
          " and pad_end ", options().pad_end(), "; expected 0 or less, which cuts off");
    h_ = Axis(x.height()), w_ = Axis(x.width());
    SetSize(bottom);
    Check(h_.out > 0 && w_.out > 0, "the top would be ", h_.out, " x ", w_.out, " pixels");
    top[0]->Reshape(x.dtype(), {x.num(), x.channels(), h_.out, w_.out}, x.block());
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class, class S>() {
      ForEach(ctx, y.count(), InterpForward<S>{x.data<S>(), h_, w_, x.block(), y.data<S>()});
    });
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class, class S>() {
      ForEach(ctx, x.count(), InterpBottomGrad<S>{y.grad<S>(), h_, w_, x.block(), x.grad<S>()});
    });
  }

 private:
  const InterpParameter& options() const { return spec().interp_param(); }

  InterpAxis Axis(int64_t whole) const {
    InterpAxis axis;
    axis.whole = whole, axis.begin = -options().pad_beg();
    axis.size = whole + options().pad_beg() + options().pad_end();
    Check(axis.size > 0, "pad_beg ", options().pad_beg(), " and pad_end ", options().pad_end(),
          " leave nothing of ", whole, " pixels");
    return axis;
  }

  void SetSize(const Blobs& bottom) {
    const InterpParameter& o = options();
    const bool factor = o.has_shrink_factor() || o.has_zoom_factor(), size = o.has_height() && o.has_width();
    Check(o.has_height() == o.has_width(), "height and width are wanted together");
    Check((bottom.size() > 1) + factor + size == 1,
          "its size is not given clearly; expected height and width, shrink_factor and zoom_factor, or a "
          "second "
          "bottom");
    Check(o.shrink_factor() >= 1 && o.zoom_factor() >= 1, "shrink_factor is ", o.shrink_factor(),
          " and zoom_factor ", o.zoom_factor(), "; expected at least 1");
    if (factor) {
      for (InterpAxis* axis : {&h_, &w_}) {
        const int64_t shrunk = (axis->size - 1) / o.shrink_factor() + 1;
        axis->out = shrunk + (shrunk - 1) * (o.zoom_factor() - 1);
      }
    } else if (size) {
      h_.out = o.height(), w_.out = o.width();
    } else {
      Check(bottom[1]->axes() == 4, "bottom '", bottom[1]->name(), "' is ", ToString(bottom[1]->shape()),
            " where an image of the top's size was expected");
      h_.out = bottom[1]->height(), w_.out = bottom[1]->width();
    }
  }

  InterpAxis h_, w_;
};

CREMA_REGISTER_LAYER(Interp, "interp_param");

}  // namespace
}  // namespace crema
