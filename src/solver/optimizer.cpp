#include "solver/optimizer.hpp"

#include <glog/logging.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "crema/caffe_files.hpp"
#include "solver/measure.hpp"
#include "solver/row_updater.hpp"
#include "solver/update_kernels.hpp"

namespace crema {
namespace {

struct RuleInfo {
  RuleType type;
  std::vector<std::string> slots;  // in the order in which Caffe's solverstate has them
};

const std::map<std::string, RuleInfo>& Rules() {
  static const std::map<std::string, RuleInfo> kRules = {
      {"SGD", {RuleType::kSgd, {"momentum"}}},
      {"Nesterov", {RuleType::kNesterov, {"momentum"}}},
      {"AdaGrad", {RuleType::kAdaGrad, {"square"}}},
      {"RMSProp", {RuleType::kRmsProp, {"square"}}},
      {"AdaDelta", {RuleType::kAdaDelta, {"square", "update_square"}}},
      {"Adam", {RuleType::kAdam, {"moment1", "moment2"}}},
      {"AdamW", {RuleType::kAdamW, {"moment1", "moment2"}}},
  };
  return kRules;
}

void CheckSettings(const SolverParameter& spec, const std::string& type) {
  Require(spec.regularization_type() == "L2" || spec.regularization_type() == "L1",
          "the solver's regularization_type is \"", spec.regularization_type(), "\", L1 or L2 was expected");
  Require(spec.iter_size() > 0, "the solver's iter_size is ", spec.iter_size(), ", at least 1 was expected");
  if (type == "AdaGrad" || type == "RMSProp")
    Require(spec.momentum() == 0, "the solver's momentum is ", spec.momentum(), ", but ", type, " has none");
  if (type == "RMSProp")
    Require(spec.rms_decay() >= 0 && spec.rms_decay() < 1, "the solver's rms_decay is ", spec.rms_decay(),
            ", a number in [0, 1) was expected");
  if (type == "Adam" || type == "AdamW") {
    Require(spec.momentum() >= 0 && spec.momentum() < 1, "the solver's momentum is ", spec.momentum(), ", ",
            type, " needs a number in [0, 1)");
    Require(spec.momentum2() >= 0 && spec.momentum2() < 1, "the solver's momentum2 is ", spec.momentum2(),
            ", ", type, " needs a number in [0, 1)");
  }
}

template <class T>
void UpdateDense(const Context& ctx, const UpdateSettings& settings, Optimizer::State* state) {
  Param& param = *state->param;
  T *s0 = state->slots[0].data<T>(), *s1 = state->slots.size() > 1 ? state->slots[1].data<T>() : nullptr;
  WithRule<T>(settings, [&]<class Rule>(const GradientTerms<T>& terms, const Rule& rule) {
    ForEach(ctx, param.value.count(),
            UpdateElement<T, Rule>{param.value.data<T>(), param.grad.data<T>(), s0, s1, terms, rule});
  });
}

}  // namespace

std::string SolverTypeOf(const SolverParameter& spec) {
  const std::string type = SolverTypeName(spec);
  Require(Rules().count(type) > 0, "the solver's type is \"", type,
          "\", one of SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam and AdamW was expected");
  return type;
}

Optimizer::Optimizer(const Context& ctx, const SolverParameter& spec, const std::vector<Param*>& params)
    : spec_(spec), type_(SolverTypeOf(spec)), slot_names_(Rules().at(type_).slots) {
  CheckSettings(spec, type_);
  for (Param* param : params) {
    State state{param, {}, nullptr};
    if (param->needs_grad()) {
      CHECK(!param->row_sparse || param->sharded || ctx.comm->size() == 1)
          << param->name << ": a replicated param cannot have its gradient by rows on several ranks";
      for (size_t i = 0; i < SlotsFor(spec, *param); ++i) {
        state.slots.push_back(param->NewTensor(*ctx.device));
        if (param->memory == nullptr) state.slots.back().Zero();
      }
    }
    states_.push_back(std::move(state));
  }
  for (State& state : states_) {
    if (!state.slots.empty() && state.param->row_sparse)
      state.rows = std::make_unique<RowUpdater>(ctx, state.param, &state.slots);
  }
}

Optimizer::~Optimizer() = default;

int64_t Optimizer::bytes() const {
  int64_t sum = 0;
  for (const State& state : states_) {
    for (const Tensor& slot : state.slots) sum += slot.bytes();
    if (state.rows != nullptr) sum += RowUpdater::BytesFor(*state.param);
  }
  return sum;
}

size_t Optimizer::SlotsFor(const SolverParameter& spec, const Param& param) {
  return param.needs_grad() ? Rules().at(SolverTypeOf(spec)).slots.size() : 0;
}

bool Optimizer::UpdatesRowsAtOnce(const SolverParameter& spec) {
  return spec.clip_gradients() < 0 && spec.iter_size() == 1;
}

void Optimizer::SumSquares(const Context& ctx, Tensor* sum) const {
  if (spec_.clip_gradients() < 0) return;
  std::vector<Tensor> replicated, sharded;
  bool any_sharded = false;
  for (const State& state : states_) {
    const Param& param = *state.param;
    if (state.slots.empty()) continue;
    any_sharded = any_sharded || param.sharded;
    if (param.row_sparse && param.rows.empty()) continue;
    (param.sharded ? sharded : replicated)
        .push_back(param.row_sparse ? param.row_grad.Rows(0, std::ssize(param.rows)) : param.grad);
  }
  AddMeasure(ctx, Measure::kSquares, sharded, sum);
  if (any_sharded) ctx.comm->AllReduce(sum, Reduce::kSum);
  AddMeasure(ctx, Measure::kSquares, replicated, sum);
}

double Optimizer::ClipFactor(const Context& ctx, std::optional<double> squares) const {
  const double limit = spec_.clip_gradients();
  if (limit < 0) return 1;
  if (!squares) {
    Tensor sum(*ctx.device, DType::kF64, {1});
    sum.Zero();
    SumSquares(ctx, &sum);
    squares = sum.ToHost<double>()[0];
  }
  const double norm = std::sqrt(*squares);
  if (!(norm > limit)) return 1;
  LOG_IF(INFO, ctx.comm->root()) << "Gradient clipping: scaling down gradients (L2 norm "
                                 << static_cast<float>(norm) << " > " << spec_.clip_gradients()
                                 << ") by scale factor " << static_cast<float>(limit / norm);
  return limit / norm;
}

UpdateSettings Optimizer::SettingsOf(const Param& param, double rate, double clip, int64_t iteration) const {
  const double decay = static_cast<double>(spec_.weight_decay()) * param.decay_mult;
  const bool is_l1 = spec_.regularization_type() == "L1";
  UpdateSettings s;
  s.type = Rules().at(type_).type;
  s.rate = rate * param.lr_mult;
  s.momentum = spec_.momentum(), s.momentum2 = spec_.momentum2();
  s.delta = spec_.delta(), s.rms_decay = spec_.rms_decay();
  s.clip = clip, s.part = 1.0 / spec_.iter_size();
  s.l1 = is_l1 ? decay : 0, s.l2 = is_l1 ? 0 : decay;
  s.iteration = iteration;
  return s;
}

void Optimizer::Begin(double rate, int64_t iteration) {
  const bool immediate = UpdatesRowsAtOnce(spec_);
  for (State& state : states_) {
    if (state.rows != nullptr) state.rows->Begin(SettingsOf(*state.param, rate, 1, iteration), immediate);
  }
}

void Optimizer::Update(const Context& ctx, double rate, int64_t iteration, std::optional<double> squares) {
  const double clip = ClipFactor(ctx, squares);
  for (State& state : states_) {
    if (state.slots.empty()) continue;
    const UpdateSettings settings = SettingsOf(*state.param, rate, clip, iteration);
    if (state.rows != nullptr) {
      state.rows->Begin(settings, false);
      state.rows->Finish(ctx);
    } else {
      ForReal(state.param->dtype, [&]<class T>() { UpdateDense<T>(ctx, settings, &state); });
    }
  }
}

void Optimizer::SkipUpdate(const Context& ctx, double rate, int64_t iteration) {
  for (State& state : states_) {
    if (state.rows == nullptr) continue;
    if (!UpdatesRowsAtOnce(spec_)) {
      state.rows->Skip();
      continue;
    }
    state.rows->Begin(SettingsOf(*state.param, rate, 1, iteration), false);
    state.rows->Finish(ctx);
  }
}

void Optimizer::CatchUp(const Context& ctx) {
  for (State& state : states_) {
    if (state.rows != nullptr) state.rows->CatchUpAll(ctx);
  }
}

}  // namespace crema
