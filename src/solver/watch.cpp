#include "solver/watch.hpp"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "solver/measure.hpp"

namespace crema {
namespace {

constexpr int64_t kPatience = 200;  // iterations after which a loss at chance level is worth a warning
constexpr size_t kRecent = 50;

bool Near(double loss, double sentinel) {
  return std::abs(loss - sentinel) < 1e-3;
}

// Classes of the classifier under the net's only loss; 0 where it is not so simple.
int64_t ClassesOf(const Net& net) {
  const Net::Step *loss = nullptr, *classifier = nullptr;
  for (const Net::Step& step : net.steps()) {
    if (!step.layer->IsLoss() || step.bottom.empty()) continue;
    if (loss != nullptr) return 0;
    loss = &step;
  }
  if (loss == nullptr || loss->bottom[0]->axes() < 2) return 0;
  if (!loss->layer->params().empty()) classifier = loss;  // both in one layer
  for (const Net::Step& step : net.steps()) {
    if (&step == loss || classifier == loss) break;
    for (const Blob* top : step.top)
      if (top->name() == loss->bottom[0]->name()) classifier = &step;
  }
  if (classifier == nullptr || classifier->layer->params().empty()) return 0;
  const Param& weight = classifier->layer->param(0);
  return weight.sharded ? weight.total_rows : loss->bottom[0]->channels();
}

// The least number of all ranks.
int64_t Least(const Context& ctx, int64_t number) {
  const std::vector<int64_t> all = ctx.comm->AllGatherNumber(number);
  return *std::min_element(all.begin(), all.end());
}

constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

bool Finite(const Context& ctx, const Tensor& x) {
  return x.empty() || MeasureOf(ctx, Measure::kNotFinite, x) == 0;
}

// How far from the top of the net the topmost weight lies that is not finite. Statistics do not count: a bad
// batch has spoilt those of all layers above its fault by the time it is noticed.
int64_t TopmostBadParam(const Context& ctx, const Net& net) {
  const std::vector<Param*>& params = net.params();
  for (size_t i = params.size(); i-- > 0;)
    if (params[i]->kind == Param::Kind::kWeight && MeasureOf(ctx, Measure::kNotFinite, *params[i]) != 0)
      return Least(ctx, static_cast<int64_t>(params.size() - 1 - i));
  return Least(ctx, kNone);
}

std::string Describe(const Layer& layer) {
  return Concat("layer '", layer.name(), "' (", layer.type(), ")");
}

void FailAtParam(const Context& ctx, const Net& net, int64_t from_top, const std::string& what) {
  const Param& param = *net.params()[net.params().size() - 1 - static_cast<size_t>(from_top)];
  const size_t slash = param.name.find_last_of('/');
  Fail(what, " at iteration ", ctx.iteration, ": weight ", param.name.substr(slash + 1), " of layer '",
       param.name.substr(0, slash), "' is the topmost that is not finite; ",
       ctx.iteration == 0 ? "it was so from the start"
                          : "an update before made it so; try a lower base_lr, a warm-up (warmup_iter) or "
                            "clip_gradients");
}

// Runs the pass again; the number of the first step that a rank found bad, in the order of execution.
struct FirstBad {
  int64_t forward = kNone, backward = kNone;
};

FirstBad RunAgain(const Context& ctx, Net* net) {
  FirstBad first;
  net->observer = [&](const Net::Step& step, bool forward, bool begin) {
    if (begin) return;
    bool finite = true;
    if (forward) {
      for (const Blob* top : step.top) finite = finite && Finite(ctx, top->data());
      if (!finite && first.forward == kNone) first.forward = &step - net->steps().data();
    } else {
      for (const Blob* bottom : step.bottom)
        if (bottom->needs_grad()) finite = finite && Finite(ctx, bottom->grad());
      for (const auto& param : step.layer->params()) {
        const bool rows = param->row_sparse;
        if (param->needs_grad())
          finite = finite &&
                   (rows ? param->rows.empty() || Finite(ctx, param->row_grad) : Finite(ctx, param->grad));
      }
      // Backward goes from the last step to the first.
      if (!finite && first.backward == kNone)
        first.backward = net->steps().data() + net->steps().size() - 1 - &step;
    }
  };
  net->ZeroParamGrads();
  net->Forward(ctx);
  first.forward = Least(ctx, first.forward);
  if (first.forward == kNone) net->Backward(ctx);
  first.backward = Least(ctx, first.backward);
  net->observer = nullptr;
  return first;
}

}  // namespace

LossWatch::LossWatch(const Net& net) : classes_(ClassesOf(net)) {}

void LossWatch::See(int64_t iteration, double loss) {
  ++seen_;
  if (!warned_saturated_ && Near(loss, -std::log(std::numeric_limits<float>::min()))) {
    warned_saturated_ = true;
    LOG(WARNING)
        << "The loss of iteration " << iteration << " is 87.3365 = -ln(1.18e-38): every sample's own "
        << "class has probability 0, the softmax is saturated. The run has diverged: try a lower base_lr "
        << "or a warm-up, and look at the scale of the data.";
  }
  if (!warned_lost_ && Near(loss, -std::log(1e-30))) {
    warned_lost_ = true;
    LOG(WARNING) << "The loss of iteration " << iteration
                 << " is 69.0776 = -ln(1e-30): no sample's own class was "
                 << "found among the classes. Look at the labels.";
  }
  recent_.push_back(loss);
  if (recent_.size() > kRecent) recent_.pop_front();
  if (warned_chance_ || classes_ < 2 || seen_ < kPatience || recent_.size() < kRecent) return;
  const double mean = std::accumulate(recent_.begin(), recent_.end(), 0.0) / kRecent;
  const double chance = std::log(static_cast<double>(classes_));
  if (std::abs(mean - chance) > 5e-3 * chance) return;
  warned_chance_ = true;
  LOG(WARNING) << "After " << seen_ << " iterations the loss is still " << mean << " = ln(" << classes_
               << "), that of guessing one of " << classes_
               << " classes: nothing is being learnt. Look at the "
               << "labels, at base_lr and at lr_mult and propagate_down of the layers.";
}

void FailNotFinite(const Context& ctx, Net* net, const std::string& what, int64_t passes) {
  const int64_t param = TopmostBadParam(ctx, *net);
  if (param != kNone) FailAtParam(ctx, *net, param, what);
  const std::vector<Net::Step>& steps = net->steps();
  for (Context again = ctx; passes > 0; --passes) {
    again.pass = ctx.pass - passes + 1;
    const FirstBad first = RunAgain(again, net);
    if (first.forward != kNone) {
      const Layer& layer = *steps[static_cast<size_t>(first.forward)].layer;
      Fail(what, " at iteration ", ctx.iteration, ": the first value that is not finite is an output of ",
           Describe(layer),
           layer.IsSource() ? ", so it is in the data" : "; what it was given and all weights are finite");
    }
    if (first.backward != kNone) {
      const Layer& layer = *steps[steps.size() - 1 - static_cast<size_t>(first.backward)].layer;
      Fail(what, " at iteration ", ctx.iteration, ": the first gradient that is not finite is made by ",
           Describe(layer), "; all outputs and weights are finite");
    }
  }
  Fail(what, " at iteration ", ctx.iteration,
       ", though a second run of it was finite; the sum of its gradients over "
       "passes or ranks may be too large");
}

void CheckWeightsFinite(const Context& ctx, const Net& net) {
  const int64_t param = TopmostBadParam(ctx, net);
  if (param != kNone) FailAtParam(ctx, net, param, "the weights are not finite");
}

void CountBadGradients(const Context& ctx, const Net& net, bool all, Tensor* sum) {
  std::vector<Tensor> grads;
  for (const Param* param : net.params()) {
    if (!param->needs_grad() || param->sharded || param->row_sparse) continue;
    if (all || grads.empty()) grads.push_back(param->grad);
  }
  AddMeasure(ctx, Measure::kNotFinite, grads, sum);
}

}  // namespace crema
