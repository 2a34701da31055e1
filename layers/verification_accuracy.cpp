// VerificationAccuracy: 1:1 verification accuracy over folds, and TAR at a given FAR, of all pairs seen since
// pass 0 (crema/eval.hpp; Huang et al., "Labeled Faces in the Wild", 2007). Samples 2k and 2k + 1 are the
// images of pair k.
#include <algorithm>
#include <cmath>
#include <limits>

#include "crema/eval.hpp"
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {

// out[k] = |a - b|^2 of pair k's embeddings at unit length (a row of zeros stays zero), then its two labels.
template <class T>
struct VerificationAccuracyPair {
  const T* x;
  Labels label;
  double* out;  // [pairs, 3]
  int64_t dim;
  CREMA_HD void operator()(int64_t k) const {
    const T *a = x + 2 * k * dim, *b = a + dim;
    double aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < dim; ++i) {
      const double ai = static_cast<double>(a[i]), bi = static_cast<double>(b[i]);
      aa += ai * ai;
      bb += bi * bi;
      ab += ai * bi;
    }
    const double cosine = aa != 0 && bb != 0 ? ab / (sqrt(aa) * sqrt(bb)) : 0;
    const double distance = (aa != 0 ? 1 : 0) + (bb != 0 ? 1 : 0) - 2 * cosine;
    out[3 * k] = distance < 0 ? 0 : distance;  // equal embeddings may round to -1e-16; NaN stays
    out[3 * k + 1] = static_cast<double>(label[2 * k]);
    out[3 * k + 2] = static_cast<double>(label[2 * k + 1]);
  }
};

namespace {

struct VerificationAccuracy final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 2}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int) const override { return false; }
  bool AccumulatesOverPass() const override { return true; }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const Blob &x = *bottom[0], &label = *bottom[1];
    Check(x.axes() >= 2 && x.num() % 2 == 0, "bottom '", x.name(), "' is ", ToString(x.shape()),
          " where embeddings of pairs were expected: an even number of samples, two after two");
    Check(label.count() == x.num(), "bottom '", label.name(), "' has ", label.count(), " labels for ",
          x.num(), " embeddings");
    Check(param().folds() >= 1, "folds is ", param().folds(), " where at least 1 was expected");
    Check(param().far() > 0 && param().far() <= 1, "far is ", param().far(),
          " where a rate above 0 and at most 1 was expected");
    for (Blob* y : top) y->Reshape(ctx.real, {});
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    // Only a test pass goes over a set; in training the measure is the batch's own.
    if (ctx.pass == 0 || phase() == TRAIN) distance_.clear(), same_.clear();
    Gather(ctx, *bottom[0], *bottom[1]);
    Check(!same_.empty(), "there are no pairs");
    int64_t kinds[2] = {0, 0};
    for (uint8_t same : same_) ++kinds[same];
    const std::vector<int64_t> fold =
        MakeFolds(same_, std::min<int64_t>(param().folds(), static_cast<int64_t>(same_.size())));
    const bool both = kinds[0] > 0 && kinds[1] > 0;
    const Verification v =
        both && top.size() > 1 ? Verify(distance_, same_, fold) : VerifyAccuracy(distance_, same_, fold);
    Write(v.accuracy, top[0]);
    if (top.size() < 2) return;
    const std::optional<double> tar = both ? TarAtFar(v, param().far()) : std::nullopt;
    Write(tar.value_or(std::numeric_limits<double>::quiet_NaN()), top[1]);  // too few pairs for this rate
  }

 private:
  const VerificationParameter& param() const { return spec().verification_param(); }

  // Appends the pairs of all ranks, in rank order: the order of the records.
  void Gather(const Context& ctx, Blob& x, Blob& label) {
    const int64_t pairs = x.num() / 2;
    Tensor mine(*ctx.device, DType::kF64, {pairs, 3});
    ForReal(x.dtype(), [&]<class T>() {
      ForEachRow(ctx, pairs,
                 VerificationAccuracyPair<T>{x.data<T>(), LabelsOf(label), mine.data<double>(), x.count(1)});
    });
    const std::vector<int64_t> rows = ctx.comm->AllGatherNumber(pairs);
    int64_t total = 0;
    for (int64_t count : rows) total += count;
    Tensor all(*ctx.device, DType::kF64, {total, 3});
    ctx.comm->AllGather(mine, rows, &all);
    const std::vector<double> values = all.ToHost<double>();
    for (size_t k = 0; k < values.size(); k += 3) Append(values[k], values[k + 1], values[k + 2]);
  }

  void Append(double distance, double label, double other) {
    Check(std::isfinite(distance), "the embeddings of pair ", distance_.size(), " are not finite");
    Check(label == other && (label == 0 || label == 1), "the samples of pair ", distance_.size(),
          " have the labels ", label, " and ", other,
          " where 1 and 1 (the same person) or 0 and 0 were expected, as convert_pairs writes them");
    distance_.push_back(distance);
    same_.push_back(label == 1);
  }

  static void Write(double value, Blob* top) {
    ForReal(top->dtype(), [&]<class T>() { top->data().FromHost(std::vector<T>{static_cast<T>(value)}); });
  }

  std::vector<double> distance_;
  std::vector<uint8_t> same_;
};

CREMA_REGISTER_LAYER(VerificationAccuracy, "verification_param");

}  // namespace
}  // namespace crema
