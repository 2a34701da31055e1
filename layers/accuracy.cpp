// Accuracy: the share of the global batch whose label is among the top_k scores; a second top has the share
// of each class.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"

namespace crema {
namespace {

// Right if fewer than top_k other classes score as much as the label's; ties count against it.
template <class T>
struct IsAmongTop {
  ScoreAt<T> score;
  Labels label;
  int64_t top_k;
  int64_t* right;
  CREMA_HD void operator()(int64_t row) const {
    const int64_t own = label[row];
    if (own < 0 || own >= score.axis.classes) {  // ignored
      right[row] = 0;
      return;
    }
    const T value = score(row, own);
    int64_t as_good = 0;
    for (int64_t k = 0; k < score.axis.classes; ++k) as_good += k != own && score(row, k) >= value;
    right[row] = as_good < top_k;
  }
};

// Of all rows (k = 0) and of those of each class (k - 1), how many are right and how many there are.
struct CountRight {
  const int64_t* right;
  Labels label;
  bool has_ignored;
  int64_t ignored;
  CREMA_HD double operator()(int64_t i, int64_t row) const {
    const int64_t own = label[row], k = i / 2;
    const bool counts = (!has_ignored || own != ignored) && (k == 0 || own == k - 1);
    return !counts ? 0 : i % 2 == 1 ? 1 : static_cast<double>(right[row]);
  }
};

template <class T>
struct WriteShare {
  const double* counts;  // [2] for each share
  T* share;
  CREMA_HD void operator()(int64_t k) const {
    const double of = counts[2 * k + 1];
    share[k] = static_cast<T>(of == 0 ? 0 : counts[2 * k] / of);
  }
};

struct Accuracy final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 2}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int) const override { return false; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    axis_ = ClassAxisOf(*bottom[0], options().axis());
    Check(options().top_k() >= 1 && options().top_k() <= axis_.classes, "top_k is ", options().top_k(),
          " where 1 to ", axis_.classes, ", the number of classes, was expected");
    Check(bottom[1]->count() == axis_.rows(), "bottom '", bottom[1]->name(), "' has ", bottom[1]->count(),
          " labels where ", axis_.rows(), " were expected: one for each row of scores in '",
          bottom[0]->name(), "' (", ToString(bottom[0]->shape()), ")");
    top[0]->Reshape(bottom[0]->dtype(), {});
    if (top.size() > 1) top[1]->Reshape(bottom[0]->dtype(), {axis_.classes});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    CheckedLabels(*this, *bottom[1], axis_, Ignored());
    const Labels label = LabelsOf(*bottom[1]);
    const int64_t shares = top.size() > 1 ? 1 + axis_.classes : 1;
    Tensor right(*ctx.device, DType::kI64, {axis_.rows()}), counts(*ctx.device, DType::kF64, {2 * shares});
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      ForEach(ctx, axis_.rows(),
              IsAmongTop<T>{{bottom[0]->data<T>(), axis_}, label, options().top_k(), right.data<int64_t>()});
      RowReduce<Reduce::kSum>(
          ctx, counts.count(), axis_.rows(),
          CountRight{right.data<int64_t>(), label, Ignored().has_value(), Ignored().value_or(0)},
          counts.data<double>());
      ctx.comm->AllReduce(&counts, Reduce::kSum);
      ForEach(ctx, 1, WriteShare<T>{counts.data<double>(), top[0]->data<T>()});
      if (top.size() > 1)
        ForEach(ctx, axis_.classes, WriteShare<T>{counts.data<double>() + 2, top[1]->data<T>()});
    });
  }

 private:
  const AccuracyParameter& options() const { return spec().accuracy_param(); }
  std::optional<int64_t> Ignored() const {
    return options().has_ignore_label() ? std::optional<int64_t>(options().ignore_label()) : std::nullopt;
  }

  ClassAxis axis_;
};

CREMA_REGISTER_LAYER(Accuracy, "accuracy_param");

}  // namespace
}  // namespace crema
