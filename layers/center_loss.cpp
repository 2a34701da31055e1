// CenterLoss: half the squared distance of each sample to the centre of its class, as a mean over the samples
// of the global batch (Wen et al., "A discriminative feature learning approach", ECCV 2016). As in
// ydwen/caffe-face, the gradient of a centre c is not the derivative: it is the sum of c - x over its samples
// x in the global batch, divided by 1 + their number, whatever the loss's weight.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/host_values.hpp"
#include "net/loss_mean.hpp"

#include <algorithm>
#include <map>

namespace crema {
namespace {

template <class T>
struct CenterSquare {
  const T *x, *center;
  Labels label;
  int64_t width;
  CREMA_HD double operator()(int64_t n, int64_t k) const {
    const double difference =
        static_cast<double>(x[n * width + k]) - static_cast<double>(center[label[n] * width + k]);
    return difference * difference;
  }
};

template <class T>
struct CenterBottomGrad {
  const T *x, *center;
  Labels label;
  int64_t width;
  const T* loss_weight;
  const double* samples;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t n = i / width;
    dx[i] = static_cast<T>(static_cast<double>(loss_weight[0]) / *samples) *
            (x[i] - center[label[n] * width + i % width]);
  }
};

// The classes that this rank has samples of: class number, where its samples begin in `sample`, samples of
// all ranks.
struct ClassRuns {
  const int64_t *number, *begin, *total, *sample;
};

template <class T>
struct CenterGrad {
  const T *x, *center;
  ClassRuns runs;
  int64_t width;
  T* grad;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t run = i / width, k = i % width, at = runs.number[run] * width + k;
    double sum = 0;
    for (int64_t s = runs.begin[run]; s < runs.begin[run + 1]; ++s)
      sum += static_cast<double>(center[at]) - static_cast<double>(x[runs.sample[s] * width + k]);
    grad[at] += static_cast<T>(sum / static_cast<double>(1 + runs.total[run]));
  }
};

struct CenterLoss final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  bool IsLoss() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const CenterLossParameter& options = spec().center_loss_param();
    const Blob& x = *bottom[0];
    const int64_t axis = x.Axis(options.axis());
    classes_ = options.num_output();
    Check(classes_ > 0, "num_output, the number of classes, is missing or 0");
    samples_ = x.count(0, axis), width_ = x.count(axis);
    Check(bottom[1]->count() == samples_, "bottom '", bottom[1]->name(), "' has ", bottom[1]->count(),
          " labels for ", samples_, " samples");
    AddParam(0, x.dtype(), {classes_, width_}, options.center_filler());
    top[0]->Reshape(x.dtype(), {});
  }

  std::vector<Collective> Collectives(const Context& ctx, const Blobs&, const Blobs& top) const override {
    if (!top[0]->needs_grad() || !params()[0]->needs_grad()) return {};
    return {{Collective::Kind::kAllGather, "labels", ctx.comm->size() * samples_ * SizeOf(DType::kI64)}};
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob& x = *bottom[0];
    labels_ = CheckedLabels(*this, *bottom[1], {samples_, classes_, 1}, std::nullopt);
    Tensor squares(*ctx.device, DType::kF64, {samples_});
    ForReal(x.dtype(), [&]<class T>() {
      RowReduce<Reduce::kSum>(ctx, samples_, width_,
                              CenterSquare<T>{x.data<T>(), param(0).data<T>(), LabelsOf(*bottom[1]), width_},
                              squares.data<double>());
    });
    mean_.Write(ctx, squares, {.samples = samples_}, LossParameter::BATCH_SIZE, 0.5, top[0]);
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    ForReal(x.dtype(), [&]<class T>() {
      if (param(0).needs_grad()) AddCenterGrad<T>(ctx, x);
      if (!x.needs_grad()) return;
      ForEach(ctx, x.count(),
              CenterBottomGrad<T>{x.data<T>(), param(0).data<T>(), LabelsOf(*bottom[1]), width_,
                                  top[0]->grad<T>(), mean_.divisor(), x.grad<T>()});
    });
  }

 private:
  // The solver adds the ranks' gradients up, so that each gives the part of its own samples.
  template <class T>
  void AddCenterGrad(const Context& ctx, Blob& x) {
    std::map<int64_t, std::vector<int64_t>> samples_of;
    for (int64_t n = 0; n < samples_; ++n) samples_of[labels_[static_cast<size_t>(n)]].push_back(n);
    std::map<int64_t, int64_t> total;
    for (int64_t label : AllLabels(ctx)) ++total[label];
    const int64_t runs = static_cast<int64_t>(samples_of.size());
    std::vector<int64_t> number, begin = {0}, totals, sample;
    for (const auto& [label, samples] : samples_of) {
      number.push_back(label), totals.push_back(total.at(label));
      sample.insert(sample.end(), samples.begin(), samples.end());
      begin.push_back(static_cast<int64_t>(sample.size()));
    }
    const Tensor numbers = OnDevice(ctx, number), begins = OnDevice(ctx, begin), all = OnDevice(ctx, totals),
                 in_order = OnDevice(ctx, sample);
    const ClassRuns lists{numbers.data<int64_t>(), begins.data<int64_t>(), all.data<int64_t>(),
                          in_order.data<int64_t>()};
    ForEach(ctx, runs * width_,
            CenterGrad<T>{x.data<T>(), param(0).data<T>(), lists, width_, param(0).grad.template data<T>()});
  }

  // Of the global batch.
  std::vector<int64_t> AllLabels(const Context& ctx) const {
    return ctx.comm->AllGatherNumbers(labels_, ctx.comm->AllGatherNumber(samples_));
  }

  int64_t samples_ = 0, width_ = 0, classes_ = 0;
  std::vector<int64_t> labels_;  // of the last Forward
  LossMean mean_;
};

CREMA_REGISTER_LAYER(CenterLoss, "center_loss_param");

}  // namespace
}  // namespace crema
