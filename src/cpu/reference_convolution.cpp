// Convolution by plain loops: for float64, and the oracle of the fast one. Any layout, groups and dilation.
#include "crema/device.hpp"

namespace crema {

namespace {

template <class T>
class ReferenceConvolution final : public Convolution {
 public:
  explicit ReferenceConvolution(const ConvolutionSpec& spec) : s_(spec) {
    x_order_ = {s_.batch, s_.channels / s_.x_block, s_.height * s_.width, s_.x_block};
    y_order_ = {s_.batch, s_.outputs / s_.y_block, s_.out_height() * s_.out_width(), s_.y_block};
  }

  void Forward(Scratch&, const Tensor& x, const Tensor& w, const Tensor* bias, Tensor* y) override {
    const T *from = x.data<T>(), *weight = w.data<T>(), *b = bias ? bias->data<T>() : nullptr;
    T* to = y->data<T>();
#pragma omp parallel for
    for (int64_t job = 0; job < s_.batch * s_.outputs; ++job) {
      const int64_t n = job / s_.outputs, o = job % s_.outputs;
      for (int64_t p = 0; p < y_order_.inner; ++p) to[y_order_.at(n, o, p)] = b ? b[o] : T(0);
      VisitTaps(o, [&](int64_t c, int64_t w_index, int64_t p, int64_t q) {
        to[y_order_.at(n, o, p)] += weight[w_index] * from[x_order_.at(n, c, q)];
      });
    }
  }

  void BackwardData(Scratch&, const Tensor& dy, const Tensor& w, Tensor* dx) override {
    const T *from = dy.data<T>(), *weight = w.data<T>();
    T* to = dx->data<T>();
    dx->Zero();
#pragma omp parallel for
    for (int64_t n = 0; n < s_.batch; ++n) {
      for (int64_t o = 0; o < s_.outputs; ++o) {
        VisitTaps(o, [&](int64_t c, int64_t w_index, int64_t p, int64_t q) {
          to[x_order_.at(n, c, q)] += weight[w_index] * from[y_order_.at(n, o, p)];
        });
      }
    }
  }

  void BackwardWeights(Scratch&, const Tensor& x, const Tensor& dy, Tensor* dw, Tensor* dbias) override {
    const T *from = x.data<T>(), *grad = dy.data<T>();
    T *to = dw->data<T>(), *db = dbias ? dbias->data<T>() : nullptr;
#pragma omp parallel for
    for (int64_t o = 0; o < s_.outputs; ++o) {
      for (int64_t n = 0; n < s_.batch; ++n) {
        VisitTaps(o, [&](int64_t c, int64_t w_index, int64_t p, int64_t q) {
          to[w_index] += grad[y_order_.at(n, o, p)] * from[x_order_.at(n, c, q)];
        });
        for (int64_t p = 0; db && p < y_order_.inner; ++p) db[o] += grad[y_order_.at(n, o, p)];
      }
    }
  }

  int64_t WorkspaceBytes(bool, bool) override {
    return 0;
  }

 private:
  // Calls visit(input channel, weight index, output position, input position) for every product that makes
  // output channel o of one sample.
  template <class Visit>
  void VisitTaps(int64_t o, const Visit& visit) const {
    const int64_t per_group = s_.channels / s_.groups, group = o / (s_.outputs / s_.groups);
    for (int64_t c = 0; c < per_group; ++c) {
      for (int64_t kh = 0; kh < s_.kernel_h; ++kh) {
        for (int64_t kw = 0; kw < s_.kernel_w; ++kw) {
          const int64_t w_index = ((o * per_group + c) * s_.kernel_h + kh) * s_.kernel_w + kw;
          for (int64_t oh = 0; oh < s_.out_height(); ++oh) {
            const int64_t h = oh * s_.stride_h - s_.pad_h + kh * s_.dilation_h;
            if (h < 0 || h >= s_.height) continue;
            for (int64_t ow = 0; ow < s_.out_width(); ++ow) {
              const int64_t col = ow * s_.stride_w - s_.pad_w + kw * s_.dilation_w;
              if (col < 0 || col >= s_.width) continue;
              visit(group * per_group + c, w_index, oh * s_.out_width() + ow, h * s_.width + col);
            }
          }
        }
      }
    }
  }

  ConvolutionSpec s_;
  Channel x_order_, y_order_;
};

}  // namespace

std::unique_ptr<Convolution> NewReferenceConvolution(const ConvolutionSpec& spec) {
  if (spec.dtype == DType::kF64) return std::make_unique<ReferenceConvolution<double>>(spec);
  return std::make_unique<ReferenceConvolution<float>>(spec);
}

}  // namespace crema
