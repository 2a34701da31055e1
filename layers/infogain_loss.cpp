// InfogainLoss: the mean over the global batch of -sum over k of H[label, k] * log softmax(scores)[k]; H is
// the third bottom or the file `source`. A second top holds the softmax.
#include "crema/io.hpp"
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/class_scores.hpp"
#include "net/loss_mean.hpp"

namespace crema {
namespace {

template <class T>
struct InfogainLossTerm {
  ScoreAt<T> score;
  const T *largest, *sum, *gain;
  Labels label;
  bool has_ignored;
  int64_t ignored;
  CREMA_HD bool counts(int64_t row) const { return !has_ignored || label[row] != ignored; }
  CREMA_HD T gain_of(int64_t row, int64_t k) const { return gain[label[row] * score.axis.classes + k]; }
  CREMA_HD double operator()(int64_t row, int64_t k) const {
    if (!counts(row)) return 0;
    const double log_p = static_cast<double>(score(row, k) - largest[row] - log(sum[row]));
    const double least = -46.0517018598809136804;  // log(1e-20)
    return -static_cast<double>(gain_of(row, k)) * (log_p > least ? log_p : least);
  }
};

template <class T>
struct InfogainLossGrad {
  InfogainLossTerm<T> term;
  const T *gain_sum, *loss_weight;  // gain_sum: of each class's row of H
  const double* divisor;
  T* dx;
  CREMA_HD void operator()(int64_t i) const {
    const ClassAxis& axis = term.score.axis;
    const int64_t row = axis.row(i);
    if (!term.counts(row)) {
      dx[i] = 0;
      return;
    }
    const T p = SoftmaxAt<T>{term.score, term.largest, term.sum}(i);
    dx[i] = static_cast<T>(static_cast<double>(loss_weight[0]) / *divisor) *
            (p * gain_sum[term.label[row]] - term.gain_of(row, axis.class_of(i)));
  }
};

template <class T>
struct GainAt {
  const T* gain;
  int64_t classes;
  CREMA_HD T operator()(int64_t row, int64_t k) const { return gain[row * classes + k]; }
};

struct InfogainLoss final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 3, 1, 2}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  Reads BackwardReads() const override { return Reads::kBottom; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  bool IsLoss() const override { return true; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob &x = *bottom[0], &label = *bottom[1];
    const int axis = spec().infogain_loss_param().axis();
    Check(!spec().softmax_param().has_axis() || x.Axis(spec().softmax_param().axis()) == x.Axis(axis),
          "the axis of softmax_param is ", spec().softmax_param().axis(), ", that of infogain_loss_param ",
          axis, "; expected the same");
    axis_ = ClassAxisOf(x, axis);
    Check(axis_.classes > 0, "bottom '", x.name(), "' of shape ", ToString(x.shape()), " has no classes");
    Check(label.count() == axis_.rows(), "bottom '", label.name(), "' has ", label.count(), " labels where ",
          axis_.rows(), " were expected: one for each row of scores in '", x.name(), "' (",
          ToString(x.shape()), ")");
    if (bottom.size() == 3) {
      const Blob& gain = *bottom[2];
      Check(gain.count() == axis_.classes * axis_.classes && gain.dtype() == x.dtype(), "bottom '",
            gain.name(), "' is ", ToString(gain.shape()), " ", NameOf(gain.dtype()), " where a matrix ",
            axis_.classes, " x ", axis_.classes, " ", NameOf(x.dtype()), " was expected");
    } else {
      ReadGain();
    }
    top[0]->Reshape(x.dtype(), {});
    if (top.size() > 1) top[1]->ReshapeLike(x);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    int64_t valid = 0;
    for (int64_t label : CheckedLabels(*this, *bottom[1], axis_, Ignored())) valid += label != Ignored();
    ForReal(bottom[0]->dtype(), [&]<class T>() {
      if (bottom.size() == 2) {
        gain_ = Tensor(*ctx.device, DTypeOf<T>(), {axis_.classes, axis_.classes});
        gain_.FromHost(std::vector<T>(gain_of_file_.begin(), gain_of_file_.end()));
      }
      statistics_ = SoftmaxStatistics(ctx, ScoreAt<T>{bottom[0]->data<T>(), axis_});
      gain_sum_ = Tensor(*ctx.device, DTypeOf<T>(), {axis_.classes});
      const InfogainLossTerm<T> term = Term<T>(bottom);
      RowReduce<Reduce::kSum>(ctx, axis_.classes, axis_.classes, GainAt<T>{term.gain, axis_.classes},
                              gain_sum_.data<T>());
      Tensor losses(*ctx.device, DType::kF64, {axis_.rows()});
      RowReduce<Reduce::kSum>(ctx, axis_.rows(), axis_.classes, term, losses.data<double>());
      mean_.Write(ctx, losses, {axis_.outer, axis_.rows(), valid},
                  NormalizationOf(spec().loss_param(), LossParameter::VALID), 1, top[0]);
      if (top.size() > 1)
        ForEach(ctx, bottom[0]->count(),
                WriteSoftmax<T>{{term.score, term.largest, term.sum}, top[1]->data<T>()});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    ForReal(x.dtype(), [&]<class T>() {
      ForEach(ctx, x.count(),
              InfogainLossGrad<T>{Term<T>(bottom), gain_sum_.data<T>(), top[0]->grad<T>(), mean_.divisor(),
                                  x.grad<T>()});
    });
  }

 private:
  std::optional<int64_t> Ignored() const {
    const LossParameter& options = spec().loss_param();
    return options.has_ignore_label() ? std::optional<int64_t>(options.ignore_label()) : std::nullopt;
  }

  void ReadGain() {
    const std::string& source = spec().infogain_loss_param().source();
    Check(!source.empty(),
          "it has neither a third bottom nor a source; expected a matrix of one number for each two "
          "classes from one of them");
    BlobProto blob;
    ReadBinary(source, &blob);
    gain_of_file_.assign(blob.data().begin(), blob.data().end());
    if (gain_of_file_.empty()) gain_of_file_.assign(blob.double_data().begin(), blob.double_data().end());
    Check(static_cast<int64_t>(gain_of_file_.size()) == axis_.classes * axis_.classes, "the file ", source,
          " has ", gain_of_file_.size(), " numbers where a matrix ", axis_.classes, " x ", axis_.classes,
          " was expected");
  }

  template <class T>
  InfogainLossTerm<T> Term(const Blobs& bottom) {
    const T* largest = statistics_.data<T>();
    const T* gain = bottom.size() == 3 ? bottom[2]->data<T>() : gain_.data<T>();
    return {{bottom[0]->data<T>(), axis_}, largest,
            largest + axis_.rows(),        gain,
            LabelsOf(*bottom[1]),          Ignored().has_value(),
            Ignored().value_or(0)};
  }

  ClassAxis axis_;
  std::vector<double> gain_of_file_;
  Tensor gain_, gain_sum_, statistics_;  // of the last Forward; statistics_: SoftmaxStatistics
  LossMean mean_;
};

CREMA_REGISTER_LAYER(InfogainLoss, "infogain_loss_param", "loss_param", "softmax_param");

}  // namespace
}  // namespace crema
