#include "net/margin_product.hpp"

#include <algorithm>
#include <cmath>

#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/unit_rows.hpp"

namespace crema {
namespace {

template <class T>
struct OwnMargin {
  T* y;  // x W^T on the way in
  Labels label;
  int64_t classes;
  AngularMargin margin;
  double lambda;
  const double *x_square, *w_square;  // null: rows of W have length 1
  double *cosine, *x_length, *w_length;
  CREMA_HD void operator()(int64_t n) const {
    const int64_t own = label[n];
    T& score = y[n * classes + own];
    x_length[n] = sqrt(x_square[n]);
    w_length[n] = w_square ? sqrt(w_square[own]) : 1;
    const double lengths = x_length[n] * w_length[n], product = static_cast<double>(score);
    cosine[n] = lengths > 0 ? product / lengths : 0;
    score = static_cast<T>((lambda * product + lengths * margin.Value(cosine[n])) / (1 + lambda));
  }
};

// What the own class's score hands down.
template <class T>
struct OwnMarginGrad {
  const T* dy;
  Labels label;
  int64_t classes;
  AngularMargin margin;
  double lambda;
  const double *cosine, *x_length, *w_length;
  bool is_sphere_faces;
  // dx += dy share w + along_x x; dw += dy share x + along_w w
  double *share, *along_x, *along_w;
  CREMA_HD void operator()(int64_t n) const {
    const double own = static_cast<double>(dy[n * classes + label[n]]) / (1 + lambda);
    const double slope = margin.Slope(cosine[n]), rest = margin.Value(cosine[n]) - cosine[n] * slope;
    double coeff_w = slope, coeff_x = x_length[n] > 0 ? rest * w_length[n] / x_length[n] : 0;
    const double norm = sqrt(coeff_w * coeff_w + coeff_x * coeff_x);
    if (is_sphere_faces && norm > 0) coeff_w /= norm, coeff_x /= norm;
    share[n] = (lambda + coeff_w) / (1 + lambda);
    along_x[n] = own * coeff_x;
    along_w[n] = w_length[n] > 0 ? own * rest * x_length[n] / w_length[n] : 0;
  }
};

template <class T>
struct SharedScoreGrad {
  const T* dy;
  Labels label;
  int64_t classes;
  const double* share;
  T* out;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t n = i / classes;
    out[i] = label[n] == i % classes ? static_cast<T>(share[n] * static_cast<double>(dy[i])) : dy[i];
  }
};

template <class T>
struct AddAlong {  // out += along * rows, row by row
  const T* rows;
  const double* along;
  int64_t length;
  T* out;
  CREMA_HD void operator()(int64_t i) const {
    out[i] += static_cast<T>(along[i / length] * static_cast<double>(rows[i]));
  }
};

struct SumByClass {
  const double* along;
  Labels label;
  int64_t samples;
  double* out;
  CREMA_HD void operator()(int64_t k) const {
    out[k] = 0;
    for (int64_t n = 0; n < samples; ++n) out[k] += label[n] == k ? along[n] : 0;
  }
};

}  // namespace

void MarginProductLayer::Reshape(const Context&, const Blobs& bottom, const Blobs& top) {
  const Blob& x = *bottom[0];
  const int64_t axis = x.Axis(options().axis());
  outputs_ = options().num_output();
  Check(outputs_ > 0, "num_output is missing or 0");
  Check(options().lambda_min() >= 0 && options().base() >= 0, "base is ", options().base(),
        " and lambda_min ", options().lambda_min(), "; expected 0 or more");
  samples_ = x.count(0, axis), inputs_ = x.count(axis);
  Check(bottom[1]->count() == samples_, "bottom '", bottom[1]->name(), "' has ", bottom[1]->count(),
        " labels for ", samples_, " samples");
  AddParam(0, x.dtype(), {outputs_, inputs_}, options().weight_filler());
  Shape shape(x.shape().begin(), x.shape().begin() + axis);
  shape.push_back(outputs_);
  top[0]->Reshape(x.dtype(), shape);
  if (top.size() > 1) top[1]->Reshape(x.dtype(), {1});
}

// The forks count their forward passes from 1, so that the first iteration has t = 1.
double MarginProductLayer::Lambda(const Context& ctx) const {
  const double t = static_cast<double>(options().iteration() + ctx.iteration + 1);
  const double falling =
      static_cast<double>(options().base()) *
      std::pow(1 + static_cast<double>(options().gamma()) * t, -static_cast<double>(options().power()));
  return std::max(falling, static_cast<double>(options().lambda_min()));
}

MarginProductLayer::Own MarginProductLayer::own() const {
  const double* first = own_.data<double>();
  return {first, first + samples_, first + 2 * samples_};
}

void MarginProductLayer::Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  Blob &x = *bottom[0], &y = *top[0];
  CheckedLabels(*this, *bottom[1], {samples_, outputs_, 1}, std::nullopt);
  lambda_ = Lambda(ctx);
  if (top.size() > 1) WriteScalar(lambda_, top[1]);
  Tensor& weight = param(0).value;
  if (IsSphereFaces()) MakeRowsUnit(ctx, &weight);
  const GemmShape product{false, true, samples_, outputs_, inputs_, 0, 0, 0};
  ctx.device->Gemm(y.dtype(), product, 1, x.data().raw(), weight.raw(), 0, y.data().raw());
  const Tensor x_squares = RowSquares(ctx, x.data().Reshaped({samples_, inputs_}));
  const Tensor w_squares = IsSphereFaces() ? Tensor() : RowSquares(ctx, weight);
  own_ = Tensor(*ctx.device, DType::kF64, {3, samples_});
  double* own = own_.data<double>();
  ForReal(y.dtype(), [&]<class T>() {
    ForEach(ctx, samples_,
            OwnMargin<T>{y.data<T>(), LabelsOf(*bottom[1]), outputs_, margin(), lambda_,
                         x_squares.data<double>(), w_squares.empty() ? nullptr : w_squares.data<double>(),
                         own, own + samples_, own + 2 * samples_});
  });
}

void MarginProductLayer::Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) {
  ForReal(top[0]->dtype(), [&]<class T>() { Gradients<T>(ctx, *top[0], *bottom[0], *bottom[1]); });
}

template <class T>
void MarginProductLayer::Gradients(const Context& ctx, Blob& y, Blob& x, const Blob& label) {
  Tensor factors(*ctx.device, DType::kF64, {3, samples_});
  double *share = factors.data<double>(), *along_x = share + samples_, *along_w = along_x + samples_;
  ForEach(ctx, samples_,
          OwnMarginGrad<T>{y.grad<T>(), LabelsOf(label), outputs_, margin(), lambda_, own().cosine,
                           own().x_length, own().w_length, IsSphereFaces(), share, along_x, along_w});
  Tensor shared(*ctx.device, y.dtype(), {samples_, outputs_});
  T* dy = shared.data<T>();
  ForEach(ctx, y.count(), SharedScoreGrad<T>{y.grad<T>(), LabelsOf(label), outputs_, share, dy});
  if (param(0).needs_grad()) WeightGrad<T>(ctx, IsSphereFaces() ? y.grad<T>() : dy, x, label, along_w);
  if (!x.needs_grad()) return;
  const GemmShape product{false, false, samples_, inputs_, outputs_, 0, 0, 0};
  ctx.device->Gemm(x.dtype(), product, 1, dy, param(0).value.raw(), 0, x.grad().raw());
  ForEach(ctx, x.count(), AddAlong<T>{x.data<T>(), along_x, inputs_, x.grad<T>()});
}

template <class T>
void MarginProductLayer::WeightGrad(const Context& ctx, const T* dy, const Blob& x, const Blob& label,
                                    const double* along_w) {
  Param& weight = param(0);
  const GemmShape product{true, false, outputs_, inputs_, samples_, 0, 0, 0};
  ctx.device->Gemm(x.dtype(), product, 1, dy, x.data().raw(), 1, weight.grad.raw());
  if (IsSphereFaces()) return;
  Tensor sums(*ctx.device, DType::kF64, {outputs_});
  ForEach(ctx, outputs_, SumByClass{along_w, LabelsOf(label), samples_, sums.data<double>()});
  ForEach(ctx, CountOf(weight.shape),
          AddAlong<T>{weight.data<T>(), sums.data<double>(), inputs_, weight.grad.template data<T>()});
}

}  // namespace crema
