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
  const int64_t* label;
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
    const std::vector<int64_t> labels = CheckedLabels(*this, *bottom[1], axis_, Ignored());
    Tensor label(*ctx.device, DType::kI64, {axis_.rows()}), right(*ctx.device, DType::kI64, {axis_.rows()});
    label.FromHost(labels);
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      const IsAmongTop<T> is_right{
          {bottom[0]->data<T>(), axis_}, label.data<int64_t>(), options().top_k(), right.data<int64_t>()};
      ForEach(ctx, axis_.rows(), is_right);
      Write<T>(ctx, labels, right.ToHost<int64_t>(), top);
    });
  }

 private:
  const AccuracyParameter& options() const { return spec().accuracy_param(); }
  std::optional<int64_t> Ignored() const {
    return options().has_ignore_label() ? std::optional<int64_t>(options().ignore_label()) : std::nullopt;
  }

  template <class T>
  void Write(const Context& ctx, const std::vector<int64_t>& labels, const std::vector<int64_t>& right,
             const Blobs& top) const {
    const size_t classes = top.size() > 1 ? static_cast<size_t>(axis_.classes) : 0;
    std::vector<double> counts(2 + 2 * classes);  // right and all; then both for each class
    for (size_t row = 0; row < labels.size(); ++row) {
      if (labels[row] == Ignored()) continue;
      const double is_right = static_cast<double>(right[row]);
      counts[0] += is_right, counts[1] += 1;
      if (classes == 0) continue;
      const size_t own = 2 + 2 * static_cast<size_t>(labels[row]);
      counts[own] += is_right, counts[own + 1] += 1;
    }
    counts = SumOverRanks(ctx, counts);
    const auto share = [&](size_t at) { return counts[at + 1] == 0 ? 0 : counts[at] / counts[at + 1]; };
    WriteScalar(share(0), top[0]);
    if (classes == 0) return;
    std::vector<T> shares;
    for (size_t k = 0; k < classes; ++k) shares.push_back(static_cast<T>(share(2 + 2 * k)));
    top[1]->data().FromHost(shares);
  }

  ClassAxis axis_;
};

CREMA_REGISTER_LAYER(Accuracy, "accuracy_param");

}  // namespace
}  // namespace crema
