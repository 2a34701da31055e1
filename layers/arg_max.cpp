// ArgMax: where the largest numbers of a sample, or along an axis, are, and how large; of equal ones the last
// comes first. It has no gradient.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"

namespace crema {
namespace {

template <class T>
struct LargestOfRow {
  ScoreAt<T> score;
  int64_t top_k;
  ClassAxis indices, values;  // where in y the index and value of a row's k-th largest go, if anywhere
  int64_t values_at;
  T* y;
  CREMA_HD void operator()(int64_t row) const {
    int64_t last = -1;
    for (int64_t k = 0; k < top_k; ++k) {
      const int64_t next = Next(row, last);
      if (indices.classes > 0) y[indices.at(row, k)] = static_cast<T>(next);
      if (values.classes > 0) y[values_at + values.at(row, k)] = score(row, next);
      last = next;
    }
  }
  // The largest that comes after `last` (-1: of all).
  CREMA_HD int64_t Next(int64_t row, int64_t last) const {
    int64_t best = -1;
    for (int64_t k = 0; k < score.axis.classes; ++k) {
      if (last >= 0 && !IsBefore(row, last, k)) continue;
      if (best < 0 || IsBefore(row, k, best)) best = k;
    }
    return best < 0 ? (last < 0 ? 0 : last) : best;  // with numbers that are none, there may be no order
  }
  CREMA_HD bool IsBefore(int64_t row, int64_t a, int64_t b) const {
    const T of_a = score(row, a), of_b = score(row, b);
    return of_a > of_b || (of_a == of_b && a > b);
  }
};

struct ArgMax final : Layer {
  using Layer::Layer;
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int) const override { return false; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() > 0, "bottom '", x.name(), "' is a scalar where numbers along an axis were expected");
    axis_ = options().has_axis() ? ClassAxisOf(x, options().axis()) : ClassAxis{x.num(), x.count(1), 1};
    const int64_t top_k = options().top_k();
    Check(top_k >= 1 && top_k <= axis_.classes, "top_k is ", top_k, "; expected 1 to ", axis_.classes,
          ", how many numbers there are to choose from in '", x.name(), "' (", ToString(x.shape()), ")");
    Shape shape = x.shape();
    if (options().has_axis()) {
      shape[static_cast<size_t>(x.Axis(options().axis()))] = top_k;
    } else {  // N x 1 x top_k, or N x 2 x top_k: indices, then values
      shape.assign(static_cast<size_t>(std::max<int64_t>(3, x.axes())), 1);
      shape[0] = x.num(), shape[1] = options().out_max_val() ? 2 : 1, shape[2] = top_k;
    }
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const int64_t top_k = options().top_k();
    ClassAxis indices, values;
    if (!options().out_max_val()) {
      indices = {axis_.outer, top_k, axis_.inner};
    } else if (options().has_axis()) {
      values = {axis_.outer, top_k, axis_.inner};
    } else {
      indices = values = {axis_.outer, 2 * top_k, 1};
    }
    const int64_t values_at = indices.classes > 0 ? top_k : 0;
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      ForEachRow(ctx, axis_.rows(),
                 LargestOfRow<T>{
                     {bottom[0]->data<T>(), axis_}, top_k, indices, values, values_at, top[0]->data<T>()});
    });
  }

 private:
  const ArgMaxParameter& options() const { return spec().argmax_param(); }

  ClassAxis axis_;
};

CREMA_REGISTER_LAYER(ArgMax, "argmax_param");

}  // namespace
}  // namespace crema
