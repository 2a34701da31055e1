// Im2col: at each position of the top, as its channels, all the numbers that a convolution's window covers
// there.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/convolution_window.hpp"

namespace crema {
namespace {

// The window along one axis.
struct ColumnAxis {
  int64_t size = 0, kernel = 1, stride = 1, pad = 0, dilation = 1, out = 0;
  // Place in the image of element k of the o-th window; outside, where it is padding.
  CREMA_HD int64_t place(int64_t o, int64_t k) const { return o * stride - pad + k * dilation; }
  // Which window has element k at place i; -1: none.
  CREMA_HD int64_t window(int64_t i, int64_t k) const {
    const int64_t from = i + pad - k * dilation;
    return from >= 0 && from % stride == 0 && from / stride < out ? from / stride : -1;
  }
};

template <class T>
struct Im2colForward {
  const T* x;
  T* y;
  ColumnAxis h, w;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t ow = i % w.out, oh = i / w.out % h.out, channel = i / (w.out * h.out);
    const int64_t plane = channel / (h.kernel * w.kernel);
    const int64_t ih = h.place(oh, channel / w.kernel % h.kernel), iw = w.place(ow, channel % w.kernel);
    const bool inside = ih >= 0 && ih < h.size && iw >= 0 && iw < w.size;
    y[i] = inside ? x[(plane * h.size + ih) * w.size + iw] : T(0);
  }
};

template <class T>
struct Im2colBottomGrad {
  const T* dy;
  T* dx;
  ColumnAxis h, w;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t iw = i % w.size, ih = i / w.size % h.size, plane = i / (w.size * h.size);
    T sum = 0;
    for (int64_t kh = 0; kh < h.kernel; ++kh) {
      const int64_t oh = h.window(ih, kh);
      for (int64_t kw = 0; kw < w.kernel && oh >= 0; ++kw) {
        const int64_t ow = w.window(iw, kw);
        if (ow >= 0) sum += dy[(((plane * h.kernel + kh) * w.kernel + kw) * h.out + oh) * w.out + ow];
      }
    }
    dx[i] = sum;
  }
};

struct Im2col final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    ConvolutionSpec window = ConvolutionWindow(*this, x);
    window.height = x.height(), window.width = x.width();
    h_ = {x.height(), window.kernel_h, window.stride_h, window.pad_h, window.dilation_h, window.out_height()};
    w_ = {x.width(), window.kernel_w, window.stride_w, window.pad_w, window.dilation_w, window.out_width()};
    const auto fits = [](const ColumnAxis& axis) {
      return axis.dilation * (axis.kernel - 1) + 1 <= axis.size + 2 * axis.pad;
    };
    Check(fits(h_) && fits(w_), "a kernel of ", h_.kernel, " x ", w_.kernel, " with padding ", h_.pad, " x ",
          w_.pad, " does not fit in ", ToString(x.shape()));
    top[0]->Reshape(x.dtype(), {x.num(), x.channels() * h_.kernel * w_.kernel, h_.out, w_.out});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, y.count(), Im2colForward<T>{x.data<T>(), y.data<T>(), h_, w_});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(), Im2colBottomGrad<T>{y.grad<T>(), x.grad<T>(), h_, w_});
    });
  }

 private:
  ColumnAxis h_, w_;
};

CREMA_REGISTER_LAYER(Im2col, "convolution_param");

}  // namespace
}  // namespace crema
